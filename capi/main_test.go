package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests of this folder look at the library from outside: it is built by build.sh into a folder of its own, and programs in
// C, C++ and Python are built against that folder and run. Go runs them because its toolchain is there wherever the library is
// built, and needs no package beside it.
//
// Environment: NETMON_PREFIX, an installed tree to test instead (such as netmon/_native of a wheel); NETMON_LONG=1, ten times
// the rounds; CC, CXX, PYTHON.

var work string // the folder of this run

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if work, err = os.MkdirTemp("", "netmon-capi-"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(work)
		return m.Run()
	}())
}

// root is the repository.
func root(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("..")
	require.NoError(t, err)
	return path
}

var built struct {
	once   sync.Once
	prefix string
	err    error
}

// prefix is an installed tree: lib/libnetmon.so, include/netmon.h and so on.
func prefix(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.prefix = os.Getenv("NETMON_PREFIX"); built.prefix == "" {
			built.prefix = filepath.Join(work, "prefix")
			built.err = buildLibrary(root(t), built.prefix)
		}
	})
	require.NoError(t, built.err)
	return built.prefix
}

// buildLibrary runs build.sh of a source tree.
func buildLibrary(source, out string) error {
	command := exec.Command("bash", filepath.Join(source, "build.sh"))
	command.Env = append(os.Environ(), "NETMON_OUT="+out)
	if text, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build.sh: %w\n%s", err, text)
	}
	return nil
}

func library(t *testing.T) string {
	t.Helper()
	return filepath.Join(prefix(t), "lib", "libnetmon.so")
}

func or(value, otherwise string) string {
	if value != "" {
		return value
	}
	return otherwise
}

func cc() string     { return or(os.Getenv("CC"), "gcc") }
func cxx() string    { return or(os.Getenv("CXX"), "g++") }
func python() string { return or(os.Getenv("PYTHON"), "python3") }

// tool skips the test where a program is not installed; .ci/run installs them all.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// times is how often something is done, as an argument of a program.
func times(usual int) string {
	if os.Getenv("NETMON_LONG") != "" {
		usual *= 10
	}
	return fmt.Sprint(usual)
}

// result is what became of a program.
type result struct {
	output string // both streams
	status int    // exit status, -1 where a signal ended it
	signal syscall.Signal
	hung   bool
}

func (r result) String() string {
	switch {
	case r.hung:
		return "hung, and was killed"
	case r.status < 0:
		return fmt.Sprintf("ended by signal %d (%v)", int(r.signal), r.signal)
	default:
		return fmt.Sprintf("exit status %d", r.status)
	}
}

// limit is how long a program may take; the slowest here takes a tenth of it.
const limit = 3 * time.Minute

// try runs a program with a time limit; all processes it leaves behind are killed.
func try(t *testing.T, environment []string, name string, arguments ...string) result {
	t.Helper()
	most := limit
	if os.Getenv("NETMON_LONG") != "" {
		most *= 10
	}
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	command := exec.CommandContext(ctx, name, arguments...)
	command.Env = append(os.Environ(), environment...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 5 * time.Second
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err := command.Run()
	if command.Process != nil {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
	}
	r := result{output: output.String(), hung: ctx.Err() != nil}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		r.status = exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			r.signal = status.Signal()
		}
	default:
		require.NoError(t, err, "%s: %s", name, r.output)
	}
	return r
}

// run runs a program that has to end well and returns what it printed.
func run(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	r := try(t, nil, name, arguments...)
	const skipped = 77
	if r.status == skipped {
		t.Skip(strings.TrimSpace(r.output))
	}
	require.True(t, r.status == 0 && !r.hung, "%s %s: %v\n%s", name, strings.Join(arguments, " "), r, r.output)
	return r.output
}

// compile builds a program from one source file of this folder, linked with the library unless it loads it itself.
func compile(t *testing.T, source, name string, flags ...string) string {
	t.Helper()
	p, program := prefix(t), filepath.Join(work, name)
	arguments := []string{"-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-I" + filepath.Join(p, "include"),
		"-o", program, source}
	arguments = append(arguments, flags...)
	run(t, cc(), append(arguments, "-ldl")...)
	return program
}

// linked are the flags that link with the library and find it at run time.
func linked(t *testing.T) []string {
	t.Helper()
	lib := filepath.Join(prefix(t), "lib")
	return []string{"-L" + lib, "-lnetmon", "-Wl,-rpath," + lib}
}
