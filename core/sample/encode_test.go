package sample

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// standard is the document as the standard library writes it.
func standard(t *testing.T, s *Sample) string {
	t.Helper()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	require.NoError(t, encoder.Encode(s))
	return string(bytes.TrimSuffix(text.Bytes(), []byte{'\n'}))
}

func TestWriteJSON_isTheDocument(t *testing.T) {
	misleading := `a "interfaces":[] of "unavailable":null} [b]`
	for name, change := range map[string]func(*Sample){
		"none kept":             func(*Sample) {},
		"all kept":              func(s *Sample) { keep(t, s.Interfaces...) },
		"first kept":            func(s *Sample) { keep(t, s.Interfaces[0]) },
		"last kept":             func(s *Sample) { keep(t, s.Interfaces[4]) },
		"every other kept":      func(s *Sample) { keep(t, s.Interfaces[1], s.Interfaces[3]) },
		"reasons shared":        func(s *Sample) { s.Lack(NewReasons(s.Unavailable)) },
		"both":                  func(s *Sample) { keep(t, s.Interfaces[2]); s.Lack(NewReasons(s.Unavailable)) },
		"no interface":          func(s *Sample) { s.Interfaces = []*Interface{} },
		"interfaces not read":   func(s *Sample) { s.Interfaces = nil },
		"no reasons":            func(s *Sample) { s.Lack(NewReasons(map[string]string{})) },
		"reasons not known":     func(s *Sample) { s.Unavailable = nil },
		"neither":               func(s *Sample) { s.Interfaces, s.Unavailable = nil, nil },
		"text like the frame's": func(s *Sample) { s.Host.Hostname, s.Host.Kernel = &misleading, &misleading },
		"list before":           func(s *Sample) { s.Host.OS = "[" },
		"list after":            func(s *Sample) { s.Probes, s.Peers = []Probe{}, []Peer{{}} },
		"probes": func(s *Sample) {
			one := Probe{Target: misleading, Error: &misleading, MethodsRefused: map[string]string{"icmp": misleading}}
			s.Probes = []Probe{one, {AgeSeconds: new(float64)}}
		},
		"reasons with quotes": func(s *Sample) {
			s.Lack(NewReasons(map[string]string{misleading: misleading, "host.hostname": "<&>\u2028\x01\xff"}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := made(5, false)
			change(s)
			var got bytes.Buffer
			require.NoError(t, s.WriteJSON(&got))
			assert.JSONEq(t, standard(t, s), got.String())
			assert.True(t, json.Valid(got.Bytes()))
			assert.NotContains(t, got.String(), "\n")
		})
	}
}

func keep(t *testing.T, interfaces ...*Interface) {
	t.Helper()
	for _, i := range interfaces {
		require.NoError(t, i.Keep())
	}
}

var errFull = errors.New("full")

// small takes so many bytes and no more.
type small struct{ room int }

func (s *small) Write(text []byte) (int, error) {
	if s.room -= len(text); s.room < 0 {
		return 0, errFull
	}
	return len(text), nil
}

func TestWriteJSON_saysWhatTheWriterSays(t *testing.T) {
	s := made(5, false)
	keep(t, s.Interfaces[1])
	s.Lack(NewReasons(s.Unavailable))
	var whole bytes.Buffer
	require.NoError(t, s.WriteJSON(&whole))
	for room := range whole.Len() {
		require.ErrorIs(t, s.WriteJSON(&small{room: room}), errFull, "with room for %d of %d bytes", room, whole.Len())
	}
	require.NoError(t, s.WriteJSON(&small{room: whole.Len()}))
}
