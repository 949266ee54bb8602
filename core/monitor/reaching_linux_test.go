package monitor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/nettest"
	"netmon/core/probe/dns"
	"netmon/core/reach"
	"netmon/core/sample"
)

// reaching is a monitor with real sockets, with a resolver configuration of its own.
type reaching struct {
	*Monitor
	t *testing.T
}

func newReaching(t *testing.T, config, resolvConf string) *reaching {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "etc"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "etc/resolv.conf"), []byte(resolvConf), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "etc/hosts"), []byte(there4+" node2\n"+here4+" node1\n"), 0o644))
	fs, etc, clk := kernelfs.System(), kernelfs.Dir(folder), clock.System()
	tools := reach.System(fs, clk)
	tools.Names = func() reach.Names { return dns.New(etc, clk) }
	parsed, err := ParseConfig([]byte(config))
	require.NoError(t, err)
	if parsed.Variables == nil {
		parsed.Variables = map[string]string{}
	}
	m, err := New(parsed, Options{Version: "0.0.0-test", Tools: &tools})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return &reaching{Monitor: m, t: t}
}

// until waits for a sample of the loop that is as wanted.
func (r *reaching) until(what string, wanted func(map[string]sample.Probe) bool) map[string]sample.Probe {
	r.t.Helper()
	byTarget := make(map[string]sample.Probe)
	ok := assert.Eventually(r.t, func() bool {
		for _, p := range r.newest().Probes {
			byTarget[p.Target] = p
		}
		return wanted(byTarget)
	}, 30*time.Second, 10*time.Millisecond)
	if !ok {
		text, _ := json.MarshalIndent(r.newest().Probes, "", " ")
		r.t.Fatalf("%s: %s", what, text)
	}
	return byTarget
}

func errorOf(p sample.Probe) string {
	if p.Target == "" || p.Error == nil {
		return ""
	}
	return *p.Error
}

func methodOf(p sample.Probe) string {
	if p.Target == "" || p.Method == nil {
		return ""
	}
	return *p.Method
}

// The threads of the Go runtime are in another namespace than the one that the monitor was made in.
func TestReaching_fromTheNamespaceOfTheMonitor(t *testing.T) {
	here, there := nettest.Pair(t)
	port := listen(there, there4+":0")
	local := listen(here, "127.0.0.1:0")
	r := newReaching(t, fmt.Sprintf(`{"interval_seconds": 0.05, "probe_interval_seconds": 0.1, "targets": [%q, %q, %q, %q, %q, "node2", "icmp://%s"],
		"job": {"master_address": "node1"}}`, there4, there6, fmt.Sprintf("tcp://%s:%d", there4, port), fmt.Sprintf("tcp://%s:1", there4),
		fmt.Sprintf("tcp://127.0.0.1:%d", local), here4), "")
	found := r.until("everybody answers", func(found map[string]sample.Probe) bool {
		return len(found) == 7 && func() bool {
			for _, p := range found {
				if p.Received < 3 {
					return false
				}
			}
			return true
		}()
	})
	for target, want := range map[string]string{
		there4: "icmp", there6: "icmp", fmt.Sprintf("tcp://%s:%d", there4, port): "tcp", fmt.Sprintf("tcp://%s:1", there4): "tcp_refused",
		fmt.Sprintf("tcp://127.0.0.1:%d", local): "tcp", "node2": "icmp", "icmp://" + here4: "icmp",
	} {
		p := found[target]
		assert.Equal(t, want, *p.Method, target)
		assert.Zero(t, p.Lost, target)
		assert.Empty(t, errorOf(p), target)
		assert.Greater(t, *p.RTTMinSeconds, 0.0, target)
		assert.Less(t, *p.RTTMinSeconds, 0.05, target)
	}
	assert.Equal(t, there4, *found["node2"].Address)
	assert.NotContains(t, found, "node1", "the master is this host")

	// On demand as well, by a loop of its own where there is none in the background.
	var answer bytes.Buffer
	require.NoError(t, probeBy(r, []byte(`{"target": "`+there4+`", "count": 3}`), &answer))
	assert.Contains(t, answer.String(), `"received":3`)
	quiet := newReaching(t, `{}`, "")
	answer.Reset()
	require.NoError(t, probeBy(quiet, fmt.Appendf(nil, `{"target": "127.0.0.1:%d", "method": "tcp"}`, local), &answer))
	assert.Contains(t, answer.String(), `"method":"tcp"`)
	require.Eventually(t, quiet.engine.Ended, 10*time.Second, time.Millisecond)
}

// Whoever cannot be reached says why, and delays nobody.
func TestReaching_twentyThatCannotBeReached(t *testing.T) {
	here, there := nettest.Pair(t)
	there.Run("ip addr add 10.9.0.3/24 dev far0", "ip addr add 10.9.0.4/24 dev far0", "nft add table inet t",
		"nft add chain inet t in { type filter hook input priority 0; }", "nft add rule inet t in ip daddr 10.9.0.3 drop",
		"nft add rule inet t in ip daddr 10.9.0.4 reject with icmp type admin-prohibited")
	// The kernel gives a neighbour up after three tries of a second each, and sends few of these messages.
	here.Run("sysctl -q -w net.ipv4.neigh.eth0.retrans_time_ms=50")
	there.Run("sysctl -q -w net.ipv4.icmp_ratelimit=0")
	// Who resolves names does not answer.
	config := `{"interval_seconds": 0.02, "probe_interval_seconds": 0.2, "probe_timeout_seconds": 0.5, "targets": [` +
		`"10.9.0.3", "icmp://10.9.0.3", "tcp://10.9.0.3:80", "tcp://10.9.0.3:81", "tcp://10.9.0.3:82",` +
		`"10.9.0.4", "icmp://10.9.0.4", "tcp://10.9.0.4:80",` +
		`"10.9.0.77", "icmp://10.9.0.78", "tcp://10.9.0.79:80",` +
		`"10.8.0.1", "icmp://10.8.0.2", "tcp://10.8.0.3:80", "icmp://fd08::1",` +
		`"nobody.example", "icmp://somebody.example", "tcp://somebody.example:80", "dns://anybody.example",` +
		`"gateway", "` + there4 + `"]}`
	r := newReaching(t, config, "nameserver 10.9.0.3\n")
	stop, slowest := make(chan struct{}), make(chan time.Duration)
	go func() {
		var most time.Duration
		for {
			select {
			case <-stop:
				slowest <- most
				return
			default:
			}
			began := time.Now()
			_ = r.Sample(&bytes.Buffer{})
			most = max(most, time.Since(began))
			time.Sleep(time.Millisecond)
		}
	}()
	want := map[string]string{
		"10.9.0.3": "no answer within 0.5 s", "icmp://10.9.0.3": "no answer within 0.5 s", "tcp://10.9.0.3:80": "no answer",
		"10.9.0.4": "said by 10.9.0.4", "icmp://10.9.0.4": "said by 10.9.0.4", "tcp://10.9.0.4:80": "said by 10.9.0.4",
		"10.9.0.77": "host", "icmp://10.9.0.78": "host", "tcp://10.9.0.79:80": "host",
		"10.8.0.1": "unreachable", "icmp://10.8.0.2": "unreachable", "tcp://10.8.0.3:80": "unreachable", "icmp://fd08::1": "unreachable",
		"nobody.example": "resolver 10.9.0.3 did not answer", "icmp://somebody.example": "resolver 10.9.0.3 did not answer",
		"tcp://somebody.example:80": "resolver 10.9.0.3 did not answer", "dns://anybody.example": "resolver 10.9.0.3 did not answer",
		"gateway": "no default route", there4: "",
	}
	found := r.until("each says what it is", func(found map[string]sample.Probe) bool {
		for target, word := range want {
			if !strings.Contains(errorOf(found[target]), word) {
				return false
			}
		}
		return found[there4].Target != "" && found[there4].Received > 10 && found["10.9.0.3"].Lost > 5
	})
	close(stop)
	assert.Less(t, <-slowest, 500*time.Millisecond, "a sample takes a fraction of a millisecond; machines that run tests are busy")
	for target := range want {
		t.Logf("%-26s %-12s %3d sent %3d lost  %s", target, methodOf(found[target]), found[target].Sent, found[target].Lost, errorOf(found[target]))
		if target != there4 {
			assert.Zero(t, found[target].Received, target)
			assert.Nil(t, found[target].RTTP50Seconds, target)
		}
	}
	assert.Zero(t, found[there4].Lost)
	began := time.Now()
	r.Close()
	assert.Less(t, time.Since(began), 200*time.Millisecond)
	require.Eventually(t, r.engine.Ended, 10*time.Second, time.Millisecond)
}

func TestReaching_interfaceDownAndUp(t *testing.T) {
	here, there := nettest.Pair(t)
	r := newReaching(t, `{"interval_seconds": 0.02, "probe_interval_seconds": 0.05, "probe_timeout_seconds": 0.2, "targets": ["`+there4+`"]}`, "")
	answers := func(found map[string]sample.Probe) bool {
		p := found[there4]
		return p.Target != "" && p.Received > 3 && p.Error == nil
	}
	r.until("it answers", answers)
	here.Run("ip link set eth0 down")
	found := r.until("it does not", func(found map[string]sample.Probe) bool { return found[there4].Error != nil && found[there4].Lost > 3 })
	assert.Equal(t, "icmp", *found[there4].Method, "the method is kept")
	here.Run("ip link set eth0 up")
	before := found[there4].Received
	found = r.until("it answers again", func(found map[string]sample.Probe) bool { return answers(found) && found[there4].Received > before+3 })
	assert.NotZero(t, found[there4].Lost, "what was lost meanwhile stays lost")

	// The address moves to another host.
	there.Run("ip addr del " + there4 + "/24 dev far0")
	r.until("nobody has it", func(found map[string]sample.Probe) bool { return found[there4].Error != nil })
	there.Run("ip addr add " + there4 + "/24 dev far0")
	r.until("somebody has it again", answers)
}

// Descriptors that the host process closes are replaced, and what it opened under their numbers is left alone.
func TestReaching_descriptorsThatTheHostCloses(t *testing.T) {
	nettest.Pair(t)
	before := descriptors(t)
	r := newReaching(t, `{"interval_seconds": 0.02, "probe_interval_seconds": 0.05, "targets": ["`+there4+`", "tcp://`+there4+`:1"]}`, "")
	answers := func(after uint64) func(map[string]sample.Probe) bool {
		return func(found map[string]sample.Probe) bool {
			return found[there4].Target != "" && found[there4].Received > after && found["tcp://"+there4+":1"].Received > after
		}
	}
	r.until("both answer", answers(2))
	closed := 0
	for fd, link := range descriptors(t) {
		if _, older := before[fd]; !older && (strings.HasPrefix(link, "socket:") || strings.HasPrefix(link, "pipe:")) {
			unix.Close(fd)
			closed++
		}
	}
	require.Greater(t, closed, 2)
	var pipes [8][2]int
	for i := range pipes {
		require.NoError(t, unix.Pipe2(pipes[i][:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	}
	sent := r.newest().Probes[0].Received
	r.until("both answer again", answers(sent+5))
	var answer bytes.Buffer
	require.NoError(t, probeBy(r, []byte(`{"target": "`+there4+`"}`), &answer), "it can be woken")
	for _, p := range pipes {
		var bytes [16]byte
		_, err := unix.Read(p[0], bytes[:])
		assert.ErrorIs(t, err, unix.EAGAIN, "nothing was written into the host's own")
		unix.Close(p[0])
		unix.Close(p[1])
	}
}

// Where no thread gets into the namespace, nothing is sent from another one, and everybody is told.
func TestReaching_namespaceThatIsLost(t *testing.T) {
	nettest.Pair(t)
	before := descriptors(t)
	r := newReaching(t, `{"interval_seconds": 0.02}`, "")
	for fd, link := range descriptors(t) {
		if _, older := before[fd]; !older && strings.HasPrefix(link, "net:") {
			unix.Close(fd)
		}
	}
	var answer bytes.Buffer
	require.NoError(t, probeBy(r, []byte(`{"target": "`+there4+`", "count": 5}`), &answer))
	assert.Contains(t, answer.String(), `"error":"probes: no thread gets into the network namespace that is measured`)
	assert.Contains(t, answer.String(), `"sent":0`)
	answer.Reset()
	require.NoError(t, probeBy(r, []byte(`{"target": "`+there4+`", "method": "path"}`), &answer))
	assert.Contains(t, answer.String(), `"error":"probes: no thread gets into`)
	identity, variables, err := ParseJob([]byte(`{"peers": ["` + there4 + `"]}`))
	require.NoError(t, err)
	require.NoError(t, r.SetJob(identity, variables))
	r.until("the target says so", func(found map[string]sample.Probe) bool {
		return strings.Contains(errorOf(found[there4]), "network namespace") && strings.Contains(r.newest().Self.Health, "network namespace")
	})
	assert.Zero(t, r.engine.Bytes())
}

// descriptors of this process, by what they refer to.
func descriptors(t *testing.T) map[int]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	all := make(map[int]string)
	for _, e := range entries {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil {
			if link, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
				all[fd] = link
			}
		}
	}
	return all
}

// As many monitors as a process can have, with targets and with requests under way, all closed at once: nothing is left.
func TestReaching_sixtyFourMonitors(t *testing.T) {
	_, there := nettest.Pair(t)
	there.Run("ip addr add 10.9.0.3/24 dev far0", "nft add table inet t", "nft add chain inet t in { type filter hook input priority 0; }",
		"nft add rule inet t in ip daddr 10.9.0.3 drop")
	make64 := func() {
		var monitors [64]*Monitor
		var requests sync.WaitGroup
		for i := range monitors {
			parsed, err := ParseConfig([]byte(`{"interval_seconds": 3600, "probe_interval_seconds": 0.1, "targets": ["` + there4 + `", "icmp://10.9.0.3"]}`))
			require.NoError(t, err)
			parsed.Variables = map[string]string{}
			monitors[i], err = New(parsed, Options{})
			require.NoError(t, err)
			requests.Add(1)
			go func() {
				defer requests.Done()
				err := probeBy(monitors[i], []byte(`{"target": "icmp://10.9.0.3", "count": 1000}`), &bytes.Buffer{})
				assert.ErrorIs(t, err, ErrClosed)
			}()
		}
		for _, m := range monitors {
			require.Eventually(t, func() bool { return m.engine.Results().Received > 0 && m.engine.Bytes() > 84 }, 30*time.Second, time.Millisecond)
		}
		for _, m := range monitors {
			m.Close()
		}
		requests.Wait()
		for _, m := range monitors {
			require.Eventually(t, m.engine.Ended, 10*time.Second, time.Millisecond)
		}
	}
	make64()
	before := len(descriptors(t))
	make64()
	assert.Eventually(t, func() bool { return len(descriptors(t)) <= before+2 }, 10*time.Second, 10*time.Millisecond, "descriptors are left")
	assert.Eventually(t, func() bool { return !strings.Contains(stacks(), "reach.(*Engine).run") }, 10*time.Second, 10*time.Millisecond)
}

func stacks() string {
	buffer := make([]byte, 1<<22)
	return string(buffer[:runtime.Stack(buffer, true)])
}

// Threads that were moved into a namespace end with it: none takes anything else there.
func TestReaching_movedThreadsAreNotReused(t *testing.T) {
	host, _ := nettest.Pair(t)
	r := newReaching(t, `{}`, "")
	for range 5 {
		require.NoError(t, probeBy(r, []byte(`{"target": "`+there4+`"}`), &bytes.Buffer{}))
		require.Eventually(t, r.engine.Ended, 10*time.Second, time.Millisecond)
	}
	var here unix.Stat_t
	require.NoError(t, unix.Stat(host.Path(), &here))
	own := unix.Gettid()
	assert.Eventually(t, func() bool {
		entries, err := os.ReadDir("/proc/self/task")
		require.NoError(t, err)
		for _, e := range entries {
			var st unix.Stat_t
			if e.Name() != fmt.Sprint(own) && unix.Stat("/proc/self/task/"+e.Name()+"/ns/net", &st) == nil && st.Ino == here.Ino {
				return false
			}
		}
		return true
	}, 10*time.Second, 10*time.Millisecond)
}

// Two monitors on two hosts, one of which answers the other's UDP echoes.
func TestReaching_udpBetweenTwoMonitors(t *testing.T) {
	_, host := nettest.Pair(t)
	there := func(config string) (m *Monitor) {
		t.Helper()
		parsed, err := ParseConfig([]byte(config))
		require.NoError(t, err)
		parsed.Variables = map[string]string{}
		host.Do(func() { m, err = New(parsed, Options{}) })
		require.NoError(t, err)
		t.Cleanup(m.Close)
		return m
	}
	const responder = `{"interval_seconds": 0.02, "udp_responder": {"address": "` + there4 + `"}}`
	answering := there(responder)
	r := newReaching(t, `{"interval_seconds": 0.02, "probe_interval_seconds": 0.05, "targets": ["udp://`+there4+`", "udp://`+there4+`:7"]}`, "")
	found := r.until("it answers", func(found map[string]sample.Probe) bool {
		p := found["udp://"+there4]
		return p.Target != "" && p.Received > 5 && errorOf(found["udp://"+there4+":7"]) != ""
	})
	echo := found["udp://"+there4]
	assert.Equal(t, "udp", methodOf(echo))
	assert.Equal(t, int64(29541), *echo.Port)
	assert.Zero(t, echo.Lost)
	assert.Contains(t, errorOf(found["udp://"+there4+":7"]), "no responder at port 7")
	assert.GreaterOrEqual(t, answering.engine.Bytes(), uint64(6*76), "answers are counted too")
	assert.NotZero(t, answering.engine.CPU(), "and what they cost")

	// The port is in use: that is told, and nothing fails.
	second := there(responder)
	health := func() string {
		var out bytes.Buffer
		require.NoError(t, second.Query([]byte(`{"view": "health"}`), &out))
		return out.String()
	}
	require.Eventually(t, func() bool {
		return strings.Contains(health(), "udp_responder: listen at "+there4+":29541: address already in use")
	},
		10*time.Second, 10*time.Millisecond)
	answering.Close()
	require.Eventually(t, answering.engine.Ended, 10*time.Second, time.Millisecond)
	r.until("it does not answer any more", func(found map[string]sample.Probe) bool { return errorOf(found["udp://"+there4]) != "" })
	began := time.Now()
	second.Close()
	assert.Less(t, time.Since(began), 200*time.Millisecond)
	require.Eventually(t, second.engine.Ended, 10*time.Second, time.Millisecond)
	there(responder)
	r.until("another answers", func(found map[string]sample.Probe) bool { return errorOf(found["udp://"+there4]) == "" })
}

func TestReaching_path(t *testing.T) {
	here, there := nettest.Pair(t)
	far := nettest.NewHost(t)
	far.Run("ip link set lo up")
	there.Run("ip link add up0 type veth peer name end0 netns "+far.Path(),
		"ip link set up0 up", "ip link set up0 mtu 1400", "ip addr add 10.9.1.1/24 dev up0", "sysctl -q -w net.ipv4.ip_forward=1",
		"sysctl -q -w net.ipv4.icmp_ratelimit=0")
	far.Run("ip link set end0 mtu 1400", "ip link set end0 up", "ip addr add 10.9.1.2/24 dev end0", "ip route add default via 10.9.1.1")
	here.Run("ip route add default via " + there4)
	r := newReaching(t, `{"interval_seconds": 0.05, "targets": ["gateway"]}`, "")
	r.until("the gateway answers", func(found map[string]sample.Probe) bool {
		return found["gateway"].Target != "" && found["gateway"].Received > 0 && *found["gateway"].Address == there4
	})
	var text bytes.Buffer
	require.NoError(t, probeBy(r, []byte(`{"target": "10.9.1.2", "method": "path"}`), &text))
	var answer sample.PathAnswer
	require.NoError(t, json.Unmarshal(text.Bytes(), &answer))
	t.Log(text.String())
	assert.True(t, answer.Done)
	require.NotNil(t, answer.Reached)
	assert.True(t, *answer.Reached)
	require.Len(t, answer.Hops, 2)
	for i, address := range []string{there4, "10.9.1.2"} {
		assert.EqualValues(t, i+1, answer.Hops[i].TTL)
		assert.Equal(t, address, *answer.Hops[i].Address)
		assert.EqualValues(t, 3, answer.Hops[i].Received)
		assert.Greater(t, *answer.Hops[i].RTTMinSeconds, 0.0)
	}
	require.NotNil(t, answer.PathMTUBytes, "%s", text.String())
	assert.EqualValues(t, 1400, *answer.PathMTUBytes)
	assert.Nil(t, answer.Error)

	// Nobody there: it says so, in slices.
	text.Reset()
	require.NoError(t, probeBy(r, []byte(`{"target": "10.9.1.77", "method": "path", "timeout_seconds": 0.1, "wait_seconds": 0.05}`), &text))
	require.NoError(t, json.Unmarshal(text.Bytes(), &answer))
	assert.False(t, answer.Done)
	text.Reset()
	require.NoError(t, probeBy(r, fmt.Appendf(nil, `{"id": %d}`, answer.ID), &text))
	answer = sample.PathAnswer{}
	require.NoError(t, json.Unmarshal(text.Bytes(), &answer))
	assert.True(t, answer.Done)
	assert.False(t, *answer.Reached)
	assert.NotNil(t, answer.Error)
	assert.Nil(t, answer.PathMTUBytes)
	assert.NotNil(t, answer.PathMTUReason)
}

// A process without any right: ping sockets closed to it, no raw ones. Its monitor falls back to TCP and says why.
func TestReaching_noRightToPing(t *testing.T) {
	_, there := nettest.Pair(t)
	port := listen(there, there4+":0")
	target := netip.AddrPortFrom(netip.MustParseAddr(there4), uint16(port)).String()
	out := asNobody(t, "TestReaching_helper", "NETMON_TEST_TARGET="+target)
	var found map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &found), "%s", out)
	assert.Equal(t, "tcp", found["method"])
	assert.EqualValues(t, 3, found["received"])
	assert.Contains(t, found["methods_refused"].(map[string]any)["icmp"], "ping_group_range")
}
