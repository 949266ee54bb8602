package tool

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
)

const (
	// slice bounds each wait, so that whoever stops a program is heard soon.
	slice = 20 * time.Millisecond
	// dying is how long a program that was killed may take to be gone, as where the kernel waits for a device on its behalf.
	dying = 2 * time.Second
)

// stream is one that a program prints to.
type stream struct {
	read, write kernelfs.Descriptor
	text        []byte
	ended       bool
}

func (s *stream) open() error {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("open a pipe: %w", err)
	}
	var readErr, writeErr error
	s.read, readErr = kernelfs.Own(ends[0])
	s.write, writeErr = kernelfs.Own(ends[1])
	if err := errors.Join(readErr, writeErr); err != nil {
		return fmt.Errorf("open a pipe: %w", err)
	}
	return unix.SetNonblock(ends[0], true) // this end alone
}

func (s *stream) close() {
	s.read.Close()
	s.write.Close()
}

var (
	errTooMuch = errors.New("printed too much")
	errLasts   = errors.New("lasts too long")
)

// take reads what has come. room is where it is put first.
// Errors: errTooMuch, kernelfs.ErrForeign.
func (s *stream) take(room []byte) error {
	for !s.ended {
		if !s.read.Owned() {
			s.ended = true
			return kernelfs.ErrForeign
		}
		n, err := unix.Read(s.read.Number(), room)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil, n == 0:
			s.ended = true
		case len(s.text)+n > MostOutput:
			return errTooMuch
		default:
			s.text = append(s.text, room[:n]...)
		}
	}
	return nil
}

// Run starts a program, reads what it prints, and waits for its end; where it has to, it kills it. name is what sentences call it.
//
// Errors: a sentence; ErrStopped. The output is what was read until then.
func Run(spawn Spawn, name string, p Program, l Limits, clk clock.Clock) (out Output, err error) {
	var streams [2]stream
	for i := range streams {
		defer streams[i].close()
		if err := streams[i].open(); err != nil {
			return out, err
		}
	}
	if l.Stop() {
		return out, ErrStopped
	}
	p.Output, p.Errors = streams[0].write.Number(), streams[1].write.Number()
	began := clk.Monotonic()
	running, err := spawn(p)
	if err != nil {
		return out, fmt.Errorf("%s cannot be started: %w", name, err)
	}
	for i := range streams {
		streams[i].write.Close()
	}
	out.Exit, err = await(running, streams[:], l, clk, began)
	out.Text, out.Errors = streams[0].text, streams[1].text
	switch {
	case err == nil && out.Exit.Err != nil:
		err = fmt.Errorf("%s cannot be started: %w", name, out.Exit.Err)
	case errors.Is(err, errTooMuch):
		err = fmt.Errorf("%s printed more than %d MiB and was killed", name, MostOutput>>20)
	case errors.Is(err, errLasts):
		err = fmt.Errorf("%s did not end within %.0f s and was killed", name, l.Timeout.Seconds())
	case err != nil && !errors.Is(err, ErrStopped):
		err = fmt.Errorf("%s: its output was lost: %w", name, err)
	}
	return out, err
}

// await reads until the program has ended. On an error it was killed.
func await(running Running, streams []stream, l Limits, clk clock.Clock, began time.Duration) (exit Exit, err error) {
	room := make([]byte, 64<<10)
	var killed time.Duration
	for {
		exit, ended := running.Ended()
		// What it printed before its end is there now. What is printed after it, by others that hold the pipe, is nobody's.
		for i := range streams {
			if failed := streams[i].take(room); err == nil {
				err = failed
			}
		}
		if ended {
			return exit, err
		}
		now := clk.Monotonic()
		switch {
		case err != nil:
		case l.Stop():
			err = ErrStopped
		case now-began >= l.Timeout:
			err = errLasts
		}
		if err != nil {
			if killed == 0 {
				killed = now
			}
			if now-killed > dying {
				return Exit{Status: -1}, err // the kernel holds it; whoever keeps it goes on waiting for its end
			}
			running.Kill()
			clock.Sleep(time.Millisecond)
			continue
		}
		var set []unix.PollFd
		for i := range streams {
			if !streams[i].ended {
				set = append(set, unix.PollFd{Fd: int32(streams[i].read.Number()), Events: unix.POLLIN})
			}
		}
		ts := unix.NsecToTimespec(int64(min(slice, began+l.Timeout-now)))
		_, _ = unix.Ppoll(set, &ts, nil)
	}
}

// Find is the path of a program: the name itself where it has a slash, else the first of that name on PATH that is a file and may be
// executed. Entries of PATH that are not absolute are left out.
//
// Errors: a sentence.
func Find(name, searched string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	if searched == "" {
		searched = "/usr/local/bin:/usr/bin:/bin"
	}
	for folder := range strings.SplitSeq(searched, ":") {
		if !path.IsAbs(folder) {
			continue
		}
		candidate := path.Join(folder, name)
		var st unix.Stat_t
		if unix.Stat(candidate, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && unix.Access(candidate, unix.X_OK) == nil {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: no folder of PATH has such a program; install it, or give its path as \"program\"", name)
}

// Environment is what programs get of the environment that variable reads.
func Environment(variable func(name string) (value string, found bool)) []string {
	environment := []string{"LANG=C"}
	names := []string{"PATH", "HOME"}
	for _, proxy := range []string{"http_proxy", "https_proxy", "all_proxy", "no_proxy"} {
		names = append(names, proxy, strings.ToUpper(proxy))
	}
	for _, name := range names {
		if value, found := variable(name); found && !slices.Contains([]byte(value), 0) {
			environment = append(environment, name+"="+value)
		}
	}
	return environment
}
