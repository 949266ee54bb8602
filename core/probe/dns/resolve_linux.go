package dns

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
)

// Resolve looks a name up by the configuration below fs and waits for the answer, timeout at most: IPv4 addresses first. It asks in
// the calling thread's network namespace.
//
// Errors: a sentence, as in Answer.
func Resolve(fs kernelfs.FS, name string, timeout time.Duration) ([]netip.Addr, error) {
	c := clock.System()
	r := New(fs, c)
	defer r.Close()
	r.Lookup(name, 0, timeout)
	for {
		var answer *Answer
		r.Receive(func(a Answer) { answer = &a })
		switch {
		case answer == nil:
			wait(r, c)
		case len(answer.Addresses) > 0:
			return answer.Addresses, nil
		default:
			return nil, answer.Err
		}
	}
}

// wait waits until there may be something to receive.
func wait(r *Resolver, c clock.Clock) {
	due, ok := r.Due()
	if !ok {
		return
	}
	var set []unix.PollFd
	for _, d := range r.Descriptors(nil) {
		events := int16(unix.POLLIN)
		if d.Write {
			events = unix.POLLOUT
		}
		set = append(set, unix.PollFd{Fd: int32(d.FD), Events: events})
	}
	left := unix.NsecToTimespec(int64(max(due-c.Monotonic(), 0)))
	_, _ = unix.Ppoll(set, &left, nil) // EINTR: look again
}
