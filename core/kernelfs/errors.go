package kernelfs

import (
	"errors"
	"fmt"
)

// ErrForeign means that a descriptor now belongs to something else: the host process closed it, as os.closerange does, and the
// number may have been used again.
var ErrForeign = errors.New("descriptor was closed by the host process")

// ParseError says which row of which kernel file could not be understood.
type ParseError struct {
	Path string // file, as far as the parser knows it
	Line int    // from 1
	Text string // the row, shortened
	Err  error  // what was wrong with it
}

// NewParseError keeps at most 80 bytes of the row.
func NewParseError(path string, line int, text []byte, err error) *ParseError {
	const most = 80
	if len(text) > most {
		text = text[:most]
	}
	return &ParseError{Path: path, Line: line, Text: string(text), Err: err}
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("%s line %d: %v: %q", e.Path, e.Line, e.Err, e.Text)
}

// Unwrap gives the cause.
func (e *ParseError) Unwrap() error { return e.Err }
