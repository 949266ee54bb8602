package dns

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/probe"
)

// Hosts are the addresses that a name has without asking anybody: those of the hosts file.
func Hosts(fs kernelfs.FS, name string) []netip.Addr { return New(fs, clock.System()).local(name) }

// Resolve looks a name up by the configuration below fs and waits for the answer, timeout at most: IPv4 addresses first. It asks in
// the calling thread's network namespace, and gives up soon after givenUp says so. sent are the bytes it has put on the wire.
//
// Errors: a sentence, as in Answer; probe.ErrVoid where it gave up.
func Resolve(fs kernelfs.FS, name string, timeout time.Duration, givenUp func() bool) (addresses []netip.Addr, sent int, err error) {
	c := clock.System()
	r := New(fs, c)
	defer r.Close()
	r.Lookup(name, 0, timeout)
	for !givenUp() {
		var answer *Answer
		sent += r.Receive(func(a Answer) { answer = &a })
		switch {
		case answer == nil:
			wait(r, c)
		case len(answer.Addresses) > 0:
			return answer.Addresses, sent, nil
		default:
			return nil, sent, answer.Err
		}
	}
	return nil, sent, probe.ErrVoid
}

// lookAround is how often it is asked whether it should give up.
const lookAround = 20 * time.Millisecond

// wait waits until there may be something to receive, or to give up.
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
	left := unix.NsecToTimespec(int64(min(max(due-c.Monotonic(), 0), lookAround)))
	_, _ = unix.Ppoll(set, &left, nil) // EINTR: look again
}
