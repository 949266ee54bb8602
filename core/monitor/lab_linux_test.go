package monitor

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"netmon/core/nettest"
)

const (
	here4, there4 = nettest.Here4, nettest.There4
	here6, there6 = nettest.Here6, nettest.There6
)

// serve listens on TCP in a host, and gives each connection to handle.
func serve(host *nettest.Host, address string, handle func(net.Conn)) (at net.Addr) {
	host.T.Helper()
	var listener net.Listener
	host.Do(func() {
		var err error
		listener, err = net.Listen("tcp", address)
		require.NoError(host.T, err)
	})
	host.T.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			handle(connection)
		}
	}()
	return listener.Addr()
}

// listen listens on TCP in a host, and closes each connection.
func listen(host *nettest.Host, address string) (port int) {
	host.T.Helper()
	at := serve(host, address, func(connection net.Conn) { connection.Close() })
	return int(netip.MustParseAddrPort(at.String()).Port())
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
