package sample

import (
	"bytes"
	"errors"
	"io"

	"github.com/goccy/go-json"
)

// Keep encodes the interface now, because many samples will share it: most interfaces of a machine are idle most of the time,
// and a document of 400 of them is written in half the time when their rows are not encoded again. Call it before the
// interface is published.
func (i *Interface) Keep() error {
	var text bytes.Buffer
	err := writeJSON(&text, i)
	i.encoded = text.Bytes()
	return err
}

// KeptBytes is the memory that Keep took.
func (i *Interface) KeptBytes() int { return cap(i.encoded) }

// interfacesKey stands in an encoded sample where its interfaces belong. No string of the document can hold it, because quotes
// in strings are escaped.
const interfacesKey = `"interfaces":null`

var errNoInterfacesKey = errors.New("sample: encoded document has no interfaces")

// WriteJSON writes the document as one line of JSON, without a newline at its end.
// Errors: those of w.
func (s *Sample) WriteJSON(w io.Writer) error {
	if s.Interfaces == nil {
		return writeJSON(w, s)
	}
	var text bytes.Buffer
	frame := *s
	frame.Interfaces = nil
	if err := writeJSON(&text, &frame); err != nil {
		return err
	}
	before, after, found := bytes.Cut(text.Bytes(), []byte(interfacesKey))
	if !found {
		return errNoInterfacesKey
	}
	out := &pieces{w: w}
	out.write(before)
	out.write([]byte(`"interfaces":[`))
	comma := []byte{','}
	for n, i := range s.Interfaces {
		if n > 0 {
			out.write(comma)
		}
		if i.encoded != nil {
			out.write(i.encoded)
		} else if out.err == nil {
			out.err = writeJSON(w, i)
		}
	}
	out.write([]byte{']'})
	out.write(after)
	return out.err
}

// WriteHistory writes samples as a JSON array, in their order.
// Errors: those of w.
func WriteHistory(w io.Writer, samples []*Sample) error {
	out := &pieces{w: w}
	out.write([]byte{'['})
	for n, s := range samples {
		if n > 0 {
			out.write([]byte{','})
		}
		if out.err == nil {
			out.err = s.WriteJSON(w)
		}
	}
	out.write([]byte{']'})
	return out.err
}

// WriteJSON writes the answer.
func (h *Health) WriteJSON(w io.Writer) error { return writeJSON(w, h) }

// WriteJSON writes the answer.
func (s *Stats) WriteJSON(w io.Writer) error { return writeJSON(w, s) }

// pieces writes until the first error.
type pieces struct {
	w   io.Writer
	err error
}

func (p *pieces) write(text []byte) {
	if p.err == nil {
		_, p.err = p.w.Write(text)
	}
}

// writeJSON encodes into the encoder's own pooled buffer and hands it to w in one piece, its newline cut off.
func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(withoutNewline{w})
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

type withoutNewline struct{ w io.Writer }

func (w withoutNewline) Write(text []byte) (int, error) {
	if _, err := w.w.Write(bytes.TrimSuffix(text, []byte{'\n'})); err != nil {
		return 0, err
	}
	return len(text), nil
}
