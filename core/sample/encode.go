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

// Reasons are what Unavailable holds, with their JSON: nearly all samples lack what the one before lacked.
type Reasons struct {
	byKey   map[string]string
	encoded []byte
}

// NewReasons encodes reasons, which must not be changed afterwards.
func NewReasons(byKey map[string]string) *Reasons {
	var text bytes.Buffer
	_ = writeJSON(&text, byKey) // it is encoded when it is written otherwise
	return &Reasons{byKey: byKey, encoded: text.Bytes()}
}

// Lack sets what is unavailable.
func (s *Sample) Lack(reasons *Reasons) {
	s.Unavailable, s.unavailable = reasons.byKey, reasons.encoded
}

var errFrame = errors.New("sample: encoded document has no place for its interfaces or reasons")

// WriteJSON writes the document as one line of JSON, without a newline at its end.
// Errors: those of w.
func (s *Sample) WriteJSON(w io.Writer) error {
	f := frame{Sample: *s, whole: s, w: w}
	if s.Interfaces != nil {
		f.Sample.Interfaces = []*Interface{}
	}
	if s.unavailable != nil {
		f.Sample.Unavailable = nil
	}
	f.Sample.Probes, f.Sample.Peers, f.Sample.RDMA = s.AllProbes(), s.AllPeers(), s.AllRDMA()
	return writeJSON(&f, &f.Sample)
}

// frame is a document without its interfaces and with its kept reasons left out. It is the writer of its own JSON, which the
// encoder writes in one piece, and puts them in.
type frame struct {
	Sample
	whole *Sample
	w     io.Writer
}

func (f *frame) Write(text []byte) (int, error) {
	out := &pieces{w: f.w}
	rest := text
	if f.whole.Interfaces != nil {
		before, after, found := cutList(rest, []byte(`"interfaces":`))
		if !found {
			return 0, errFrame
		}
		out.write(before)
		out.interfaces(f.whole.Interfaces)
		rest = after
	}
	if f.whole.unavailable != nil {
		before, found := bytes.CutSuffix(rest, []byte("null}"))
		if !found {
			return 0, errFrame
		}
		out.write(before)
		out.write(f.whole.unavailable)
		rest = []byte{'}'}
	}
	out.write(rest)
	return len(text), out.err
}

// cutList cuts JSON inside the list that follows a key. No string can be taken for the key, because quotes in strings are escaped.
func cutList(text, key []byte) (before, after []byte, found bool) {
	for at := 0; ; at++ {
		bracket := bytes.IndexByte(text[at:], '[')
		if bracket < 0 {
			return nil, nil, false
		}
		if at += bracket; bytes.HasSuffix(text[:at], key) {
			return text[:at+1], text[at+1:], true
		}
	}
}

// interfaces writes elements of a list, those that stand together without being encoded yet at once.
func (p *pieces) interfaces(list []*Interface) {
	comma := []byte{','}
	for n := 0; n < len(list) && p.err == nil; {
		if n > 0 {
			p.write(comma)
		}
		if list[n].encoded != nil {
			p.write(list[n].encoded)
			n++
			continue
		}
		first := n
		for n < len(list) && list[n].encoded == nil {
			n++
		}
		if p.err == nil {
			p.err = writeJSON(elements{p.w}, list[first:n])
		}
	}
}

// elements writes the elements of a JSON list without its brackets.
type elements struct{ w io.Writer }

func (e elements) Write(text []byte) (int, error) {
	if _, err := e.w.Write(text[1 : len(text)-1]); err != nil {
		return 0, err
	}
	return len(text), nil
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
func (f *Fine) WriteJSON(w io.Writer) error { return writeJSON(w, f) }

// WriteJSON writes the answer.
func (p *ProbeAnswer) WriteJSON(w io.Writer) error { return writeJSON(w, p) }

// WriteJSON writes the answer.
func (p *PathAnswer) WriteJSON(w io.Writer) error { return writeJSON(w, p) }

// WriteJSON writes the answer.
func (b *BandwidthAnswer) WriteJSON(w io.Writer) error { return writeJSON(w, b) }

// WriteJSON writes the answer.
func (c *Collectives) WriteJSON(w io.Writer) error { return writeJSON(w, c) }

// WriteJSON writes the answer.
func (a *Alerts) WriteJSON(w io.Writer) error { return writeJSON(w, a) }

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

// WriteJSON writes a document of another package as the documents here are written: one line, without a newline at its end.
// Errors: those of w.
func WriteJSON(w io.Writer, document any) error { return writeJSON(w, document) }

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
