package probe_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/probe"
)

// dropRights takes its rights from the calling thread, for good, and from no other.
func dropRights(t *testing.T) {
	t.Helper()
	const nobody = 65534
	for _, call := range []uintptr{unix.SYS_SETGROUPS, unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
		a := [3]uintptr{nobody, nobody, nobody}
		if call == unix.SYS_SETGROUPS {
			a = [3]uintptr{}
		}
		_, _, errno := unix.RawSyscall(call, a[0], a[1], a[2])
		require.Zero(t, errno)
	}
}

func to(address string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(address), port)
}

// await waits for what a prober finds, for as many results as asked for or until the time is over.
func await(t testing.TB, p probe.Prober, results int, atMost time.Duration) (got []probe.Result) {
	t.Helper()
	for end := time.Now().Add(atMost); ; {
		p.Receive(func(r probe.Result) { got = append(got, r) })
		left := time.Until(end)
		if len(got) >= results || left <= 0 {
			return got
		}
		var set []unix.PollFd
		for _, d := range p.Descriptors(nil) {
			events := int16(unix.POLLIN)
			if d.Write {
				events = unix.POLLOUT
			}
			set = append(set, unix.PollFd{Fd: int32(d.FD), Events: events})
		}
		if _, err := unix.Poll(set, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			require.NoError(t, err)
		}
	}
}

// one sends one probe and returns how it ended; it must end.
func one(t testing.TB, p probe.Prober, target netip.AddrPort, token uint64) probe.Result {
	t.Helper()
	_, err := p.Send(target, token)
	require.NoError(t, err)
	got := await(t, p, 1, 10*time.Second)
	require.Len(t, got, 1, "the probe did not end")
	require.Equal(t, token, got[0].Token)
	return got[0]
}
