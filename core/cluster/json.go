package cluster

import (
	"io"

	"netmon/core/sample"
)

// WriteJSON writes the view as one line of JSON, without a newline at its end.
// Errors: those of w.
func (v *View) WriteJSON(w io.Writer) error { return sample.WriteJSON(w, v) }
