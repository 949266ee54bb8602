package probe_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/probe"
)

// host is a network namespace of its own.
type host struct {
	t         testing.TB
	namespace int // descriptor
}

// newHost makes a host with nothing but a loopback interface. It ends with the test.
func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{t: t}
	var err error
	h.thread(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			h.namespace, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
	})
	if err != nil {
		if os.Getenv("NETMON_REQUIRE_NAMESPACES") == "1" {
			t.Fatalf("network namespaces are required here: %v", err)
		}
		t.Skipf("needs the right to make a network namespace: %v", err)
	}
	t.Cleanup(func() { unix.Close(h.namespace) })
	h.run("ip link set lo up")
	h.sysctl("net/ipv6/conf/default/accept_dad", "0") // which would keep link-local addresses from being used for a second
	return h
}

// thread runs f in a thread that ends with it.
func (h *host) thread(f func()) {
	h.t.Helper()
	done, finished := make(chan struct{}), false
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
		finished = true
	}()
	<-done
	if !finished { // a requirement failed in it
		h.t.FailNow()
	}
}

// enter moves the calling goroutine into the host, for good.
func (h *host) enter() {
	h.t.Helper()
	runtime.LockOSThread() // the thread ends with the goroutine: its namespace is no other test's
	require.NoError(h.t, unix.Setns(h.namespace, unix.CLONE_NEWNET))
}

// do runs f in the host.
func (h *host) do(f func()) {
	h.t.Helper()
	h.thread(func() {
		h.enter()
		f()
	})
}

// run runs commands in the host, one a line.
func (h *host) run(lines ...string) {
	h.t.Helper()
	h.do(func() {
		for _, line := range lines {
			command := strings.Fields(line)
			if rest, is := strings.CutPrefix(line, "nft "); is {
				command = []string{"nft", rest}
			}
			out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
			require.NoError(h.t, err, "%s: %s", line, out)
		}
	})
}

// sysctl sets a kernel setting of the host.
func (h *host) sysctl(path, value string) {
	h.t.Helper()
	h.do(func() { require.NoError(h.t, os.WriteFile("/proc/sys/"+path, []byte(value), 0)) })
}

// link joins two hosts with a veth pair: device with the addresses here, far with those there.
func (h *host) link(device string, addresses []string, peer *host, far string, theirs []string) {
	h.t.Helper()
	h.run(fmt.Sprintf("ip link add %s type veth peer name %s netns /proc/%d/fd/%d", device, far, os.Getpid(), peer.namespace))
	for _, end := range []struct {
		host      *host
		device    string
		addresses []string
	}{{h, device, addresses}, {peer, far, theirs}} {
		end.host.run("ip link set " + end.device + " up")
		for _, a := range end.addresses {
			line := "ip addr add " + a + " dev " + end.device
			if strings.Contains(a, ":") {
				line += " nodad"
			}
			end.host.run(line)
		}
	}
	// Until the kernel's worker has noticed the carrier, packets are dropped.
	h.awaitUp(device)
	peer.awaitUp(far)
}

// awaitUp waits until an interface carries packets.
func (h *host) awaitUp(device string) {
	h.t.Helper()
	namespace := fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), h.namespace)
	require.Eventually(h.t, func() bool {
		out, err := exec.Command("nsenter", namespace, "ip", "-o", "link", "show", device).Output()
		return err == nil && strings.Contains(string(out), "state UP")
	}, 10*time.Second, 5*time.Millisecond)
}

const (
	here4, there4 = "10.9.0.1", "10.9.0.2"
	here6, there6 = "fd09::1", "fd09::2"
)

// pair makes two hosts with a link between them: here with eth0, there with far0. The calling goroutine is here afterwards.
func pair(t testing.TB) (here, there *host) {
	t.Helper()
	here, there = newHost(t), newHost(t)
	here.link("eth0", []string{here4 + "/24", here6 + "/64", "fe80::1/64"}, there, "far0",
		[]string{there4 + "/24", there6 + "/64", "fe80::2/64"})
	// IPv6 is ready a little later than the link is.
	for _, address := range []string{there4, there6, "fe80::2%eth0"} {
		here.run("ping -q -n -c 1 -i 0.2 -w 10 " + address)
	}
	here.enter()
	return here, there
}

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
