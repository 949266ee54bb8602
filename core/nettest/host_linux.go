package nettest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Host is a network namespace of its own.
type Host struct {
	T          testing.TB
	descriptor int
}

// NewHost makes a host with nothing but a loopback interface that is up. It ends with the test.
func NewHost(t testing.TB) *Host {
	t.Helper()
	h := &Host{T: t}
	var err error
	h.thread(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			h.descriptor, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
	})
	if err != nil {
		if os.Getenv("NETMON_REQUIRE_NAMESPACES") == "1" {
			t.Fatalf("network namespaces are required here: %v", err)
		}
		t.Skipf("needs the right to make a network namespace: %v", err)
	}
	t.Cleanup(func() { unix.Close(h.descriptor) })
	h.Run("ip link set lo up")
	h.Sysctl("net/ipv6/conf/default/accept_dad", "0") // which would keep link-local addresses from being used for a second
	return h
}

// Enter makes a host for the calling goroutine and moves it there, for good, with nothing but what ip(8) makes of the lines.
func Enter(t testing.TB, lines ...string) *Host {
	t.Helper()
	h := NewHost(t)
	for _, line := range lines {
		h.Run("ip " + line)
	}
	h.Enter()
	return h
}

// thread runs f in a thread that ends with it.
func (h *Host) thread(f func()) {
	h.T.Helper()
	done, finished := make(chan struct{}), false
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
		finished = true
	}()
	<-done
	if !finished { // a requirement failed in it
		h.T.FailNow()
	}
}

// Enter moves the calling goroutine into the host, for good. Goroutines that it starts are elsewhere.
func (h *Host) Enter() {
	h.T.Helper()
	runtime.LockOSThread() // the thread ends with the goroutine: its namespace is no other test's
	require.NoError(h.T, unix.Setns(h.descriptor, unix.CLONE_NEWNET))
}

// Do runs f in the host.
func (h *Host) Do(f func()) {
	h.T.Helper()
	h.thread(func() {
		h.Enter()
		f()
	})
}

// Path is a file that names the host's namespace, for programs as nsenter, and as long as the test runs.
func (h *Host) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.descriptor) }

// Run runs commands in the host, one a line.
func (h *Host) Run(lines ...string) {
	h.T.Helper()
	h.Do(func() {
		for _, line := range lines {
			command := strings.Fields(line)
			if rest, is := strings.CutPrefix(line, "nft "); is {
				command = []string{"nft", rest}
			}
			out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
			require.NoError(h.T, err, "%s: %s", line, out)
		}
	})
}

// Sysctl sets a kernel setting of the host.
func (h *Host) Sysctl(path, value string) {
	h.T.Helper()
	h.Do(func() { require.NoError(h.T, os.WriteFile("/proc/sys/"+path, []byte(value), 0)) })
}

// Link joins two hosts with a veth pair: device with the addresses here, far with those there.
func (h *Host) Link(device string, addresses []string, peer *Host, far string, theirs []string) {
	h.T.Helper()
	h.Run(fmt.Sprintf("ip link add %s type veth peer name %s netns %s", device, far, peer.Path()))
	for _, end := range []struct {
		host      *Host
		device    string
		addresses []string
	}{{h, device, addresses}, {peer, far, theirs}} {
		end.host.Run("ip link set " + end.device + " up")
		for _, a := range end.addresses {
			line := "ip addr add " + a + " dev " + end.device
			if strings.Contains(a, ":") {
				line += " nodad"
			}
			end.host.Run(line)
		}
	}
	// Until the kernel's worker has noticed the carrier, packets are dropped.
	h.AwaitUp(device)
	peer.AwaitUp(far)
}

// AwaitUp waits until an interface carries packets.
func (h *Host) AwaitUp(device string) {
	h.T.Helper()
	require.Eventually(h.T, func() bool {
		out, err := exec.Command("nsenter", "--net="+h.Path(), "ip", "-o", "link", "show", device).Output()
		return err == nil && strings.Contains(string(out), "state UP")
	}, 10*time.Second, 5*time.Millisecond)
}

// AwaitAnswer waits until an address answers: the kernel's worker may still be making it ready, and refuse packets meanwhile.
func (h *Host) AwaitAnswer(address string) {
	h.T.Helper()
	require.Eventually(h.T, func() bool {
		return exec.Command("nsenter", "--net="+h.Path(), "ping", "-q", "-n", "-c", "1", "-W", "1", address).Run() == nil
	}, 20*time.Second, 20*time.Millisecond, "no answer from %s", address)
}

// Addresses of the hosts that Pair makes.
const (
	Here4, There4 = "10.9.0.1", "10.9.0.2"
	Here6, There6 = "fd09::1", "fd09::2"
)

// Pair makes two hosts with a link between them: here with eth0, there with far0. The calling goroutine is here afterwards.
func Pair(t testing.TB) (here, there *Host) {
	t.Helper()
	here, there = NewHost(t), NewHost(t)
	here.Link("eth0", []string{Here4 + "/24", Here6 + "/64", "fe80::1/64"}, there, "far0",
		[]string{There4 + "/24", There6 + "/64", "fe80::2/64"})
	// IPv6 is ready a little later than the link is.
	for _, address := range []string{There4, There6, "fe80::2%eth0"} {
		here.AwaitAnswer(address)
	}
	here.Enter()
	return here, there
}
