package dns

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
	"netmon/core/nettest"
)

// A resolver that many hosts really use, on the port that resolv.conf means.
func TestResolver_againstDnsmasq(t *testing.T) {
	program, err := exec.LookPath("dnsmasq")
	if err != nil {
		t.Skip("needs dnsmasq (Debian's dnsmasq-base)")
	}
	nettest.NewHost(t).Enter()
	folder := t.TempDir()
	var names strings.Builder
	names.WriteString("10.0.0.7 node7.example\nfd00::7 node7.example\n10.0.0.8 only4.example\n")
	for i := range 100 {
		fmt.Fprintf(&names, "10.0.1.%d big.example\n", i)
	}
	write(t, folder, "names", names.String())
	command := exec.Command(program, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=",
		"--user=root", "--bind-interfaces", "--listen-address=127.0.0.1,::1", "--addn-hosts="+filepath.Join(folder, "names"),
		"--cname=alias.example,node7.example", "--local=/example/", "--log-facility="+filepath.Join(folder, "log"))
	require.NoError(t, command.Start())
	defer func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}()
	write(t, folder, configPath, "nameserver 127.0.0.1\noptions edns0 attempts:5\n")
	r := resolver(t, folder)
	got := look(t, r, "node7.example", long)
	for end := time.Now().Add(long); got.Err != nil && time.Now().Before(end); { // until it listens
		time.Sleep(10 * time.Millisecond)
		got = look(t, r, "node7.example", long)
	}
	require.NoError(t, got.Err)
	assert.Equal(t, addresses("10.0.0.7", "fd00::7"), got.Addresses)
	assert.Equal(t, servers("127.0.0.1:53")[0], got.Server)
	assert.Equal(t, addresses("10.0.0.7", "fd00::7"), look(t, r, "Alias.example", long).Addresses)
	assert.Equal(t, addresses("10.0.0.8"), look(t, r, "only4.example", long).Addresses)
	got = look(t, r, "nobody.example", long)
	assert.EqualError(t, got.Err, "name does not resolve: NXDOMAIN, said by 127.0.0.1")
	got = look(t, r, "other.domain", long)
	assert.EqualError(t, got.Err, "resolver 127.0.0.1 failed: REFUSED", "it has nobody to ask")

	for _, text := range []string{"nameserver ::1", "nameserver ::1\noptions use-vc", "nameserver 127.0.0.1\noptions rotate"} {
		write(t, folder, configPath, text)
		got = look(t, r, "big.example", long) // does not fit into 512 bytes
		require.NoError(t, got.Err, text)
		assert.Len(t, got.Addresses, mostAddresses, text)
	}
	kill := func(signal os.Signal) { require.NoError(t, command.Process.Signal(signal)) }
	kill(unix.SIGSTOP)
	write(t, folder, configPath, "nameserver 127.0.0.1\n")
	got = look(t, r, "node7.example", 100*time.Millisecond)
	assert.ErrorContains(t, got.Err, "resolver 127.0.0.1 did not answer in 0.")
	kill(unix.SIGCONT)
}

func TestResolver_overALink(t *testing.T) {
	here, there := nettest.Pair(t)
	var s *server
	there.Do(func() { s = serve(t, "[::]:53", zone(t, map[string][]string{"node7.example": {"10.0.0.7"}})) })
	folder := t.TempDir()
	r := resolver(t, folder)
	for _, address := range []string{"10.9.0.2", "fe80::2%eth0"} {
		write(t, folder, configPath, "nameserver "+address)
		got := look(t, r, "node7.example", long)
		require.NoError(t, got.Err, address)
		assert.Equal(t, addresses("10.0.0.7"), got.Addresses)
		assert.Equal(t, netip.AddrPortFrom(netip.MustParseAddr(address), port), got.Server)
	}
	assert.Len(t, s.questions(), 4)

	write(t, folder, configPath, "nameserver 192.0.2.1\nnameserver 2001:db8::1")
	got := look(t, r, "node7.example", long)
	assert.ErrorIs(t, got.Err, unix.ENETUNREACH)
	assert.EqualError(t, got.Err, "resolver 192.0.2.1 cannot be asked: network is unreachable; "+
		"resolver 2001:db8::1 cannot be asked: network is unreachable")
	assert.Zero(t, got.Sent)

	here.Sysctl("net/ipv4/neigh/eth0/retrans_time_ms", "100") // instead of 1 s, thrice
	write(t, folder, configPath, "nameserver 10.9.0.9\noptions attempts:1")
	got = look(t, r, "node7.example", long)
	assert.ErrorIs(t, got.Err, unix.EHOSTUNREACH)
	assert.EqualError(t, got.Err, "resolver 10.9.0.9 cannot be asked: host unreachable: no answer to ARP")
}

// Nothing of it needs a right.
func TestResolver_unprivileged(t *testing.T) {
	s := serve(t, "127.0.0.1:0", zone(t, map[string][]string{"node7.example": {"10.0.0.7"}}))
	folder := root(t, []*server{s})
	for path := folder; path != os.TempDir() && path != "/"; path = filepath.Dir(path) {
		require.NoError(t, os.Chmod(path, 0o755))
	}
	r, tcp := resolver(t, folder), resolver(t, root(t, []*server{s}, "options use-vc"))
	tcp.load()
	ended := make(chan [2]Answer)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine, and what was taken from it
		const nobody = 65534
		for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS}, {unix.SYS_SETRESGID, nobody, nobody, nobody}, {unix.SYS_SETRESUID, nobody, nobody, nobody}} {
			_, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]) // of this thread alone
			assert.True(t, errno == 0 || os.Getuid() != 0, "%v", errno)
		}
		ended <- [2]Answer{look(t, r, "node7.example", long), look(t, tcp, "node7.example", long)}
	}()
	for _, got := range <-ended {
		require.NoError(t, got.Err)
		assert.Equal(t, addresses("10.0.0.7"), got.Addresses)
	}
}

// TestMain lets TestResolve_opensNoPoller run a process in which nothing but Resolve happened.
func TestMain(m *testing.M) {
	folder := os.Getenv("NETMON_TEST_RESOLVE")
	if folder == "" {
		os.Exit(m.Run())
	}
	descriptors := func() (open []string) {
		for fd := range 64 {
			if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
				open = append(open, target)
			}
		}
		return open
	}
	before := descriptors()
	_, _, err := Resolve(kernelfs.Dir(folder), "node7.example", 100*time.Millisecond, never)
	after := descriptors()
	fmt.Println("resolved:", err)
	fmt.Println(before, after)
}

// Go's poller must stay unopened: a host that closes its descriptors would be aborted.
func TestResolve_opensNoPoller(t *testing.T) {
	s := serve(t, "127.0.0.1:0", zone(t, map[string][]string{"node7.example": {"10.0.0.7"}}))
	for what, folder := range map[string]string{
		"resolved: <nil>":              root(t, []*server{s}),
		"resolved: resolver 127.0.0.1": root(t, []*server{serve(t, "127.0.0.1:0", silent)}),
	} {
		command := exec.Command(os.Args[0])
		command.Env = append(os.Environ(), "NETMON_TEST_RESOLVE="+folder)
		out, err := command.CombinedOutput()
		require.NoError(t, err)
		assert.Contains(t, string(out), what)
		assert.NotContains(t, string(out), "eventpoll")
		assert.NotContains(t, string(out), "eventfd")
		assert.NotContains(t, string(out), "socket:")
	}
}
