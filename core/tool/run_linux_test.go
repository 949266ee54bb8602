package tool_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/clock"
	"netmon/core/nettest"
	"netmon/core/tool"
)

func never() bool { return false }

// script is a program of the test's.
func script(t *testing.T, lines string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+lines+"\n"), 0o755))
	return path
}

func runScript(t *testing.T, lines string, l tool.Limits) (tool.Output, error) {
	t.Helper()
	p := tool.Program{Path: script(t, lines), Arguments: []string{"program"}, Environment: []string{"PATH=" + os.Getenv("PATH")}}
	return tool.Run(nettest.Spawn, "program", p, l, clock.System())
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}

// How programs end that end in many ways. What they leave behind is tested with the library's own way to start them (capi).
func TestRun(t *testing.T) {
	for name, tt := range map[string]struct{ lines, text, errors, wrong string }{
		"well":           {lines: "echo one; echo two >&2", text: "one\n", errors: "two\n"},
		"badly":          {lines: "echo one; exit 3", text: "one\n"},
		"silent":         {lines: "exec >&- 2>&-"},
		"hangs":          {lines: "echo one; sleep 1000", text: "one\n", wrong: "program did not end within 1 s and was killed"},
		"closes":         {lines: "exec >&- 2>&-; sleep 1000", wrong: "program did not end within 1 s and was killed"},
		"talks":          {lines: "yes", wrong: "program printed more than 1 MiB and was killed"},
		"complains":      {lines: "yes >&2", wrong: "program printed more than 1 MiB and was killed"},
		"leaves others":  {lines: "sleep 1000 & echo one", text: "one\n"},
		"ignores signal": {lines: "trap '' TERM INT HUP; while :; do sleep 0.1; done", wrong: "program did not end within 1 s and was killed"},
		"as much as may": {lines: "head -c 1048576 /dev/zero", text: strings.Repeat("\x00", 1<<20)},
		"one byte more":  {lines: "head -c 1048577 /dev/zero", wrong: "program printed more than 1 MiB and was killed"},
	} {
		t.Run(name, func(t *testing.T) {
			before := descriptors(t)
			began := time.Now()
			out, err := runScript(t, tt.lines, tool.Limits{Timeout: time.Second, Stop: never})
			assert.Less(t, time.Since(began), 20*time.Second)
			assert.Equal(t, before, descriptors(t))
			if tt.wrong != "" {
				require.EqualError(t, err, tt.wrong)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.text, string(out.Text))
			assert.Equal(t, tt.errors, string(out.Errors))
		})
	}
}

func TestRun_nobodyWantsItAnyMore(t *testing.T) {
	var unwanted atomic.Bool
	go func() {
		time.Sleep(200 * time.Millisecond)
		unwanted.Store(true)
	}()
	began := time.Now()
	_, err := runScript(t, "sleep 1000", tool.Limits{Timeout: time.Minute, Stop: unwanted.Load})
	require.ErrorIs(t, err, tool.ErrStopped)
	assert.Less(t, time.Since(began), 5*time.Second)
}

func TestRun_cannotBeStarted(t *testing.T) {
	_, err := tool.Run(nettest.Spawn, "program", tool.Program{Path: "/no/such/program", Arguments: []string{"program"}},
		tool.Limits{Timeout: time.Second, Stop: never}, clock.System())
	require.EqualError(t, err, "program cannot be started: no such file or directory")
}

func TestFind(t *testing.T) {
	folder := t.TempDir()
	for name, mode := range map[string]os.FileMode{"good": 0o755, "text": 0o644} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), nil, mode))
	}
	require.NoError(t, os.Mkdir(filepath.Join(folder, "folder"), 0o755))
	t.Chdir(folder)
	path := "/no/such/folder:" + folder
	found, err := tool.Find("good", path)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(folder, "good"), found)
	found, err = tool.Find("./good", "")
	require.NoError(t, err)
	assert.Equal(t, "./good", found)
	for _, name := range []string{"text", "folder", "missing"} {
		_, err = tool.Find(name, path)
		require.ErrorContains(t, err, name+" is not installed")
	}
	_, err = tool.Find("good", ".:")
	require.ErrorContains(t, err, "is not installed", "the working directory is nowhere to look")
}

func TestEnvironment(t *testing.T) {
	all := map[string]string{"PATH": "/bin", "HOME": "/root", "https_proxy": "http://a", "NO_PROXY": "b", "LD_PRELOAD": "c", "TOKEN": "d", "LANG": "de"}
	got := tool.Environment(func(name string) (string, bool) {
		value, found := all[name]
		return value, found
	})
	assert.Equal(t, []string{"LANG=C", "PATH=/bin", "HOME=/root", "https_proxy=http://a", "NO_PROXY=b"}, got)
}

func TestFailure(t *testing.T) {
	for want, out := range map[string]tool.Output{
		"x failed and said nothing":                         {},
		"x failed with exit status 3: the last line":        {Exit: tool.Exit{Status: 3}, Errors: []byte("one\n the last line \n\n")},
		"x was ended by signal 9: b":                        {Exit: tool.Exit{Status: -1, Signal: 9}, Text: []byte("a\nb")},
		"x was ended by somebody else and said nothing":     {Exit: tool.Exit{Status: -1}},
		"x failed: ??  " + strings.Repeat("y", 196) + "...": {Errors: []byte("\xff\xff\x00\t" + strings.Repeat("y", 1000))},
	} {
		got := tool.Failure("x", out, "").Error()
		if strings.HasPrefix(want, "x failed: ??") {
			assert.Regexp(t, `^x failed: \?+ +y+\.\.\.$`, got)
			continue
		}
		assert.Equal(t, want, got)
	}
	assert.EqualError(t, tool.Failure("x", tool.Output{Errors: []byte("noise")}, "words"), "x failed: words")
	assert.ErrorContains(t, tool.NotUnderstood("x", tool.Output{Text: []byte("{}")}, "why"), `x printed what is not understood: why: "{}"`)
}
