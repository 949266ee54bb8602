package monitor

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// lab is two hosts with a link between them: here (the thread of the test is in it) with eth0, there with far0. Nothing leaves them.
type lab struct {
	t           *testing.T
	here, there int // descriptors of network namespaces
}

const (
	here4, there4 = "10.9.0.1", "10.9.0.2"
	here6, there6 = "fd09::1", "fd09::2"
)

// inThread runs f in a thread that ends with it.
func inThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

func newNamespace(t *testing.T) (namespace int) {
	t.Helper()
	var err error
	inThread(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			namespace, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
	})
	if err != nil {
		if os.Getenv("NETMON_REQUIRE_NAMESPACES") == "1" {
			t.Fatalf("network namespaces are required here: %v", err)
		}
		t.Skipf("needs the right to make a network namespace: %v", err)
	}
	t.Cleanup(func() { unix.Close(namespace) })
	return namespace
}

// newLab makes the hosts. Only the thread of the test is in one: goroutines that it starts are not.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, here: newNamespace(t), there: newNamespace(t)}
	l.run(l.here, "ip link set lo up", fmt.Sprintf("ip link add eth0 type veth peer name far0 netns /proc/%d/fd/%d", os.Getpid(), l.there),
		"ip link set eth0 up", "ip addr add "+here4+"/24 dev eth0", "ip addr add "+here6+"/64 dev eth0 nodad")
	l.run(l.there, "ip link set lo up", "ip link set far0 up", "ip addr add "+there4+"/24 dev far0",
		"ip addr add "+there6+"/64 dev far0 nodad")
	require.Eventually(t, func() bool {
		// Until the kernel's worker has noticed the carrier, packets are dropped.
		out, err := exec.Command("nsenter", l.path(l.here), "ip", "-o", "link", "show", "eth0").Output()
		return err == nil && strings.Contains(string(out), "state UP")
	}, 10*time.Second, 5*time.Millisecond)
	runtime.LockOSThread() // the thread ends with the test: its namespace is no other test's
	require.NoError(t, unix.Setns(l.here, unix.CLONE_NEWNET))
	return l
}

func (l *lab) path(namespace int) string {
	return fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), namespace)
}

// run runs commands in a host, one a line.
func (l *lab) run(namespace int, lines ...string) {
	l.t.Helper()
	for _, line := range lines {
		command := append([]string{l.path(namespace)}, strings.Fields(line)...)
		if rest, is := strings.CutPrefix(line, "nft "); is {
			command = []string{l.path(namespace), "nft", rest}
		}
		out, err := exec.Command("nsenter", command...).CombinedOutput()
		require.NoError(l.t, err, "%s: %s", line, out)
	}
}

// listen listens on TCP in a host.
func (l *lab) listen(namespace int, address string) (port int) {
	l.t.Helper()
	var listener net.Listener
	var err error
	inThread(func() {
		if err = unix.Setns(namespace, unix.CLONE_NEWNET); err == nil {
			listener, err = net.Listen("tcp", address)
		}
	})
	require.NoError(l.t, err)
	l.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			connection.Close()
		}
	}()
	return int(netip.MustParseAddrPort(listener.Addr().String()).Port())
}

// asNobody runs one test of this program as a process of its own without any right, in the namespace of the calling thread.
func asNobody(t *testing.T, test string, environment ...string) string {
	t.Helper()
	// The program may lie where nobody may go.
	folder, err := os.MkdirTemp("", "netmon-nobody-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(folder) })
	require.NoError(t, os.Chmod(folder, 0o755))
	text, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	program := filepath.Join(folder, "program")
	require.NoError(t, os.WriteFile(program, text, 0o755))
	const nobody = 65534
	command := exec.Command(program, "-test.run", "^"+test+"$")
	command.Dir = folder
	command.Env = append(os.Environ(), environment...)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := command.Output()
	require.NoError(t, err, "%s", out)
	_, answer, found := strings.Cut(string(out), "ANSWER ")
	require.True(t, found, "%s", out)
	answer, _, _ = strings.Cut(answer, "\n")
	return answer
}

// TestReaching_helper is the process that asNobody runs.
func TestReaching_helper(t *testing.T) {
	target := os.Getenv("NETMON_TEST_TARGET")
	if target == "" {
		return // no test of its own
	}
	m, err := New(DefaultConfig(), Options{})
	require.NoError(t, err)
	defer m.Close()
	var answer bytes.Buffer
	require.NoError(t, probeBy(m, []byte(`{"target": "`+target+`", "count": 3}`), &answer))
	fmt.Printf("ANSWER %s\n", answer.String())
}
