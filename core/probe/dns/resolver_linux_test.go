package dns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"netmon/core/probe"
	"netmon/core/probe/stamp"
)

const long = 10 * time.Second

func TestResolver_bothFamilies(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		s := serve(t, at, zone(t, map[string][]string{"node7.example": {"2001:db8::7", "10.0.0.7", "10.0.0.8"}}))
		r := resolver(t, root(t, []*server{s}))
		r.Lookup("node7.example", 1, long)
		require.Len(t, r.asking, 1)
		assert.NotZero(t, r.asking[0].left, "the kernel stamped the first question")
		assert.Len(t, r.Descriptors(nil), 2)
		got, sent := await(t, r, 1)
		require.NoError(t, got[0].Err)
		assert.Equal(t, addresses("10.0.0.7", "10.0.0.8", "2001:db8::7"), got[0].Addresses)
		assert.Equal(t, s.address, got[0].Server)
		assert.Positive(t, got[0].RTT)
		assert.Less(t, got[0].RTT, long)
		assert.False(t, got[0].Hosts)
		headers := 20 + 8
		if s.address.Addr().Is6() {
			headers = 40 + 8
		}
		assert.Equal(t, 2*(headers+12+15+4), got[0].Sent, "two questions of 12 bytes, the name and 4 bytes")
		assert.Equal(t, got[0].Sent, sent)
		assert.ElementsMatch(t, []string{"node7.example A", "node7.example AAAA"}, s.questions())
	}
}

func TestResolver_timesTheSlowerAnswer(t *testing.T) {
	const delay = 60 * time.Millisecond
	known := zone(t, map[string][]string{"slow.example": {"10.0.0.7", "2001:db8::7"}})
	for _, slow := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		var s *server
		s = serve(t, "127.0.0.1:0", func(q query) [][]byte {
			if q.kind != slow {
				return known(q)
			}
			time.AfterFunc(delay, func() { _, _ = s.udp.WriteTo(known(q)[0], q.from) })
			return nil
		})
		got := look(t, resolver(t, root(t, []*server{s})), "slow.example", long)
		require.NoError(t, got.Err)
		assert.Len(t, got.Addresses, 2)
		assert.GreaterOrEqual(t, got.RTT, delay)
	}
}

// A busy process reads an answer late; the time is that of its arrival.
func TestResolver_timeIsTheKernels(t *testing.T) {
	s := serve(t, "127.0.0.1:0", zone(t, map[string][]string{"node7.example": {"10.0.0.7", "2001:db8::7"}}))
	r := resolver(t, root(t, []*server{s}))
	var least time.Duration
	for range 5 { // the server's goroutines may be late too, hardly each time
		r.Lookup("node7.example", 1, long)
		time.Sleep(100 * time.Millisecond) // this process is busy
		got, _ := await(t, r, 1)
		require.NoError(t, got[0].Err)
		if least == 0 || got[0].RTT < least {
			least = got[0].RTT
		}
	}
	assert.Less(t, least, 50*time.Millisecond)
}

func TestResolver_overTCP(t *testing.T) {
	known := map[string][]string{"big.example": nil}
	for i := range 40 {
		known["big.example"] = append(known["big.example"], fmt.Sprintf("10.0.1.%d", i))
	}
	whole := zone(t, known)
	handle := func(q query) [][]byte {
		if q.tcp || q.kind == dnsmessage.TypeAAAA {
			return whole(q)
		}
		m := answer(q.question)
		m.Truncated = true
		return says(t, m)
	}
	s := serve(t, "127.0.0.1:0", handle)
	got := look(t, resolver(t, root(t, []*server{s})), "big.example", long)
	require.NoError(t, got.Err)
	assert.Len(t, got.Addresses, 40)
	assert.Positive(t, got.RTT)
	assert.ElementsMatch(t, []string{"big.example A", "big.example AAAA", "big.example A tcp"}, s.questions())
	// SYN, ACK, question, ACKs of one or more parts, FIN.
	assert.Greater(t, got.Sent, 2*(28+12+13+4)+4*52+31)
	assert.Less(t, got.Sent, 2*(28+12+13+4)+9*60+31)

	s = serve(t, "[::1]:0", handle)
	got = look(t, resolver(t, root(t, []*server{s}, "options use-vc")), "big.example", long)
	require.NoError(t, got.Err)
	assert.Len(t, got.Addresses, 40)
	assert.ElementsMatch(t, []string{"big.example A tcp", "big.example AAAA tcp"}, s.questions())
}

func TestResolver_failingTCP(t *testing.T) {
	truncate := func(q query) [][]byte {
		m := answer(q.question)
		m.Truncated = true
		return says(t, m)
	}
	closes := serve(t, "127.0.0.1:0", func(q query) [][]byte {
		if q.tcp {
			return nil
		}
		return truncate(q)
	})
	got := look(t, resolver(t, root(t, []*server{closes})), "node7.example", long)
	assert.EqualError(t, got.Err, fmt.Sprintf("resolver %s cannot be asked: over TCP: the server closed the connection", closes.address))

	refuses := serve(t, "127.0.0.1:0", truncate)
	require.NoError(t, refuses.tcp.Close())
	got = look(t, resolver(t, root(t, []*server{refuses})), "node7.example", long)
	assert.ErrorIs(t, got.Err, unix.ECONNREFUSED)
	assert.ErrorContains(t, got.Err, "over TCP: connection refused")

	lies := serve(t, "127.0.0.1:0", func(q query) [][]byte {
		if q.tcp {
			q.id++
			return says(t, answer(q.question))
		}
		return truncate(q)
	})
	got = look(t, resolver(t, root(t, []*server{lies})), "node7.example", long)
	assert.ErrorContains(t, got.Err, "it answers another question")
	assert.Empty(t, got.Addresses)
}

// Answers that do not answer the question may be anybody's: they are passed over, and the server's own still counts.
func TestResolver_forgedAnswers(t *testing.T) {
	elsewhere, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	require.NoError(t, err)
	defer elsewhere.Close()
	forge := func(q query) [][]byte {
		right := answer(q.question)
		if q.kind == dnsmessage.TypeA {
			right.Answers = []dnsmessage.Resource{a(q.name.String(), "192.0.2.66")}
		}
		_, err := elsewhere.WriteTo(packed(t, right), q.from)
		assert.NoError(t, err)
		other := right
		other.Questions = []dnsmessage.Question{{Name: name("other.example."), Type: q.kind, Class: dnsmessage.ClassINET}}
		wrong := right
		wrong.ID++
		question := right
		question.Response = false
		return [][]byte{[]byte("garbage"), {}, packed(t, wrong), packed(t, other), packed(t, question)}
	}
	known := zone(t, map[string][]string{"node7.example": {"10.0.0.7"}})
	s := serve(t, "127.0.0.1:0", func(q query) [][]byte { return append(forge(q), known(q)...) })
	got := look(t, resolver(t, root(t, []*server{s})), "node7.example", long)
	require.NoError(t, got.Err)
	assert.Equal(t, addresses("10.0.0.7"), got.Addresses)

	s = serve(t, "127.0.0.1:0", forge)
	got = look(t, resolver(t, root(t, []*server{s})), "node7.example", 300*time.Millisecond)
	assert.Empty(t, got.Addresses)
	assert.ErrorIs(t, got.Err, probe.ErrLost)
	assert.ErrorContains(t, got.Err, "datagrams that do not answer the question were ignored: 6")
}

func TestResolver_identifiersAndPortsAreRandom(t *testing.T) {
	ports, ids := make(map[string]bool), make(map[uint16]bool)
	known := zone(t, map[string][]string{"node7.example": {"10.0.0.7"}})
	s := serve(t, "127.0.0.1:0", func(q query) [][]byte {
		ports[q.from.String()] = true
		ids[q.id] = true
		return known(q)
	})
	r := resolver(t, root(t, []*server{s}))
	for range 20 {
		require.NoError(t, look(t, r, "node7.example", long).Err)
	}
	assert.Greater(t, len(ports), 30)
	assert.Greater(t, len(ids), 35)
}

func TestResolver_silence(t *testing.T) {
	t.Parallel()
	dead := serve(t, "127.0.0.1:0", silent)
	alive := serve(t, "127.0.0.1:0", zone(t, map[string][]string{"node7.example": {"10.0.0.7"}}))
	got := look(t, resolver(t, root(t, []*server{dead, alive}, "options timeout:1")), "node7.example", long)
	require.NoError(t, got.Err)
	assert.Equal(t, addresses("10.0.0.7"), got.Addresses)
	assert.Equal(t, alive.address, got.Server)
	assert.GreaterOrEqual(t, got.RTT, time.Second, "who asks this resolver waits for it")
	assert.Less(t, got.RTT, 2*time.Second)

	got = look(t, resolver(t, root(t, []*server{dead, alive})), "node7.example", 300*time.Millisecond)
	assert.ErrorIs(t, got.Err, probe.ErrLost)
	assert.Regexp(t, `^resolver 127\.0\.0\.1:\d+ did not answer in 0\.\d+ s$`, got.Err.Error())
	assert.Empty(t, got.Addresses)
	assert.Positive(t, got.Sent)

	got = look(t, resolver(t, root(t, []*server{dead}, "options timeout:1 attempts:1", "search a.example b.example")), "node7", long)
	assert.ErrorIs(t, got.Err, probe.ErrLost)
	assert.ErrorContains(t, got.Err, "did not answer in 1")
	assert.NotContains(t, dead.questions(), "node7.b.example A", "with another name it would be as silent")
}

func TestResolver_oneFamilyIsSilent(t *testing.T) {
	t.Parallel()
	known := zone(t, map[string][]string{"node7.example": {"10.0.0.7"}})
	s := serve(t, "127.0.0.1:0", func(q query) [][]byte {
		if q.kind == dnsmessage.TypeAAAA {
			return nil
		}
		return known(q)
	})
	got := look(t, resolver(t, root(t, []*server{s})), "node7.example", 300*time.Millisecond)
	assert.Equal(t, addresses("10.0.0.7"), got.Addresses)
	assert.ErrorIs(t, got.Err, probe.ErrLost)
	assert.ErrorContains(t, got.Err, "did not answer the question for IPv6 addresses in 0.")

	found, _, err := Resolve(resolver(t, root(t, []*server{s}, "options timeout:1 attempts:1")).fs, "node7.example", long, never)
	require.NoError(t, err, "one family is enough to go on")
	assert.Equal(t, addresses("10.0.0.7"), found)
	got = look(t, resolver(t, root(t, []*server{s}, "options no-aaaa")), "node7.example", long)
	assert.NoError(t, got.Err)
	assert.Equal(t, addresses("10.0.0.7"), got.Addresses)
}

func TestResolver_serversThatCannotBeAsked(t *testing.T) {
	known := map[string][]string{"node7.example": {"10.0.0.7"}}
	alive := serve(t, "127.0.0.1:0", zone(t, known))
	closed := serve(t, "127.0.0.1:0", silent)
	require.NoError(t, closed.udp.Close())

	got := look(t, resolver(t, root(t, []*server{closed, alive})), "node7.example", long)
	require.NoError(t, got.Err)
	assert.Equal(t, alive.address, got.Server)

	got = look(t, resolver(t, root(t, []*server{closed})), "node7.example", long)
	assert.ErrorIs(t, got.Err, unix.ECONNREFUSED)
	assert.EqualError(t, got.Err, fmt.Sprintf("resolver %s cannot be asked: port unreachable, said by 127.0.0.1", closed.address))

	folder := t.TempDir()
	write(t, folder, configPath, "nameserver fe80::1%nowhere9")
	got = look(t, resolver(t, folder), "node7.example", long)
	assert.ErrorIs(t, got.Err, unix.ENODEV)
	assert.ErrorContains(t, got.Err, `resolver fe80::1%nowhere9 cannot be asked`)
	assert.Zero(t, got.Sent)
}

func TestResolver_serversThatFail(t *testing.T) {
	alive := serve(t, "127.0.0.1:0", zone(t, map[string][]string{"node7.example": {"10.0.0.7"}}))
	lame := func(q query) [][]byte {
		m := answer(q.question)
		m.RecursionAvailable = false
		return says(t, m)
	}
	damaged := func(q query) [][]byte {
		whole := packed(t, answer(q.question, cname(q.name.String(), "other.example.")))
		return [][]byte{whole[:len(whole)-2]}
	}
	failing := func(rcode dnsmessage.RCode) func(query) [][]byte {
		return func(q query) [][]byte { return code(t, q, rcode) }
	}
	for reason, handle := range map[string]func(query) [][]byte{
		"failed: SERVFAIL":              failing(dnsmessage.RCodeServerFailure),
		"failed: REFUSED":               failing(dnsmessage.RCodeRefused),
		"failed: NOTIMP":                failing(dnsmessage.RCodeNotImplemented),
		"failed: FORMERR":               failing(dnsmessage.RCodeFormatError),
		"failed: it neither knows":      lame,
		"failed: its answer is damaged": damaged,
	} {
		s := serve(t, "127.0.0.1:0", handle)
		got := look(t, resolver(t, root(t, []*server{s, alive})), "node7.example", long)
		require.NoError(t, got.Err, reason)
		assert.Equal(t, addresses("10.0.0.7"), got.Addresses, reason)

		got = look(t, resolver(t, root(t, []*server{s}, "search a.example")), "node7.example", long)
		assert.ErrorContains(t, got.Err, fmt.Sprintf("resolver %s %s", s.address, reason))
		assert.Equal(t, 1, strings.Count(got.Err.Error(), "failed"), "each sentence once")
		assert.NotErrorIs(t, got.Err, ErrNotFound)
		assert.Contains(t, s.questions(), "node7.example.a.example A", "another name may be served better")
	}
}

func TestResolver_namesThatDoNotResolve(t *testing.T) {
	s := serve(t, "127.0.0.1:0", zone(t, map[string][]string{"bare.example": {}, "loop.example": {"loop2.example."}}))
	folder := root(t, []*server{s})
	r := resolver(t, folder)
	got := look(t, r, "nobody.example", long)
	assert.ErrorIs(t, got.Err, ErrNotFound)
	assert.EqualError(t, got.Err, fmt.Sprintf("name does not resolve: NXDOMAIN, said by %s", s.address))
	assert.Positive(t, got.RTT)

	got = look(t, r, "bare.example", long)
	assert.EqualError(t, got.Err, fmt.Sprintf("name does not resolve: the name has no address, said by %s", s.address))
	got = look(t, r, "loop.example", long)
	assert.ErrorIs(t, got.Err, ErrNotFound)

	got = look(t, r, "printer.local", long)
	assert.ErrorContains(t, got.Err, "; names that only multicast DNS knows cannot be resolved here")
	write(t, folder, switchPath, "hosts: files mdns4_minimal [NOTFOUND=return] dns myhostname\n")
	got = look(t, r, "nobody.example", long)
	assert.ErrorContains(t, got.Err, "; nsswitch.conf names services besides, which only the C library can ask: mdns4_minimal, myhostname")

	before := len(s.questions())
	got = look(t, r, "no..name", long)
	assert.ErrorIs(t, got.Err, ErrNotFound)
	assert.Len(t, s.questions(), before)
}

func TestResolver_searchList(t *testing.T) {
	s := serve(t, "127.0.0.1:0", zone(t, map[string][]string{
		"node7.b.example": {"10.0.0.7"}, "node8.rack": {"10.0.0.8"}, "alias": {"b.example.", "10.0.0.9"}, "node9.a.example": {},
	}))
	tests := []struct {
		options, name string
		want          []netip.Addr
		asked         []string
	}{
		{"", "node7", addresses("10.0.0.7"), []string{"node7.a.example A", "node7.b.example A"}},
		{"", "node8.rack", addresses("10.0.0.8"), []string{"node8.rack A"}},
		{"options ndots:2", "node8.rack", addresses("10.0.0.8"), []string{"node8.rack.a.example A", "node8.rack.b.example A", "node8.rack A"}},
		{"", "alias.", addresses("10.0.0.9"), []string{"alias A"}},
		{"", "node9", nil, []string{"node9.a.example A", "node9.b.example A", "node9 A"}},
	}
	for _, tt := range tests {
		before := len(s.questions())
		got := look(t, resolver(t, root(t, []*server{s}, "search a.example b.example", "options no-aaaa", tt.options)), tt.name, long)
		assert.Equal(t, tt.want, got.Addresses, tt.name)
		assert.Equal(t, tt.want == nil, got.Err != nil, tt.name)
		assert.Equal(t, tt.asked, s.questions()[before:], tt.name)
	}
}

func TestResolver_hostsFile(t *testing.T) {
	s := serve(t, "127.0.0.1:0", zone(t, map[string][]string{"node7": {"10.0.0.7"}}))
	folder := root(t, []*server{s})
	write(t, folder, hostsPath, "10.1.0.7 node7 # by hand\nfd00::7 Node7\n")
	r := resolver(t, folder)
	got := look(t, r, "NODE7.", long)
	require.NoError(t, got.Err)
	assert.True(t, got.Hosts)
	assert.Equal(t, addresses("10.1.0.7", "fd00::7"), got.Addresses)
	assert.False(t, got.Server.IsValid())
	assert.Positive(t, got.RTT)
	assert.Zero(t, got.Sent)
	assert.Equal(t, addresses("127.0.0.1", "::1"), look(t, r, "localhost", long).Addresses)
	assert.Equal(t, addresses("127.0.0.1", "::1"), look(t, r, "a.localhost.", long).Addresses)
	assert.Equal(t, addresses("10.2.0.7"), look(t, r, "10.2.0.7", long).Addresses)
	assert.Empty(t, s.questions())

	write(t, folder, hostsPath, "10.1.0.8 node7\n")
	assert.Equal(t, addresses("10.1.0.8"), look(t, r, "node7", long).Addresses)
	require.NoError(t, os.Remove(folder+"/"+hostsPath))
	got = look(t, r, "node7", long)
	assert.Equal(t, addresses("10.0.0.7"), got.Addresses)
	assert.False(t, got.Hosts)
}

func TestResolver_configurationChanges(t *testing.T) {
	first := serve(t, "127.0.0.1:0", zone(t, map[string][]string{"node7.example": {"10.0.0.1"}}))
	second := serve(t, "127.0.0.1:0", zone(t, map[string][]string{"node7.example": {"10.0.0.2"}}))
	folder := root(t, []*server{first})
	r := resolver(t, folder)
	assert.Equal(t, addresses("10.0.0.1"), look(t, r, "node7.example", long).Addresses)
	write(t, folder, configPath, fmt.Sprintf("nameserver [127.0.0.1]:%d\n", second.address.Port()))
	assert.Equal(t, addresses("10.0.0.2"), look(t, r, "node7.example", long).Addresses)
	require.NoError(t, os.Remove(folder+"/"+configPath))
	r.load()
	assert.Equal(t, servers("127.0.0.1:53"), r.config.servers)
}

func TestResolver_ednsIsGivenUp(t *testing.T) {
	known := zone(t, map[string][]string{"node7.example": {"10.0.0.7"}})
	s := serve(t, "127.0.0.1:0", func(q query) [][]byte {
		if q.edns {
			return code(t, q, dnsmessage.RCodeFormatError)
		}
		return known(q)
	})
	got := look(t, resolver(t, root(t, []*server{s}, "options edns0 no-aaaa")), "node7.example", long)
	require.NoError(t, got.Err)
	assert.Equal(t, []string{"node7.example A edns", "node7.example A"}, s.questions())
}

func TestResolver_serversTakeTurns(t *testing.T) {
	known := zone(t, map[string][]string{"node7.example": {"10.0.0.7"}})
	pool := []*server{serve(t, "127.0.0.1:0", known), serve(t, "127.0.0.1:0", known), serve(t, "127.0.0.1:0", known)}
	r := resolver(t, root(t, pool, "options rotate"))
	for i := range 6 {
		assert.Equal(t, pool[i%3].address, look(t, r, "node7.example", long).Server)
	}
}

func TestResolver_oneQuestionAtATime(t *testing.T) {
	var under, most atomic.Int32
	known := zone(t, map[string][]string{"node7.example": {"10.0.0.7", "fd00::7"}})
	var s *server
	s = serve(t, "127.0.0.1:0", func(q query) [][]byte {
		if n := under.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.AfterFunc(20*time.Millisecond, func() {
			under.Add(-1)
			_, _ = s.udp.WriteTo(known(q)[0], q.from)
		})
		return nil
	})
	got := look(t, resolver(t, root(t, []*server{s}, "options single-request")), "node7.example", long)
	require.NoError(t, got.Err)
	assert.Len(t, got.Addresses, 2)
	assert.EqualValues(t, 1, most.Load())
	assert.GreaterOrEqual(t, got.RTT, 40*time.Millisecond)
	got = look(t, resolver(t, root(t, []*server{s})), "node7.example", long)
	require.NoError(t, got.Err)
	assert.EqualValues(t, 2, most.Load())
}

func TestResolver_manyAtATime(t *testing.T) {
	s := serve(t, "127.0.0.1:0", zone(t, map[string][]string{"node7.example": {"10.0.0.7"}}))
	r := resolver(t, root(t, []*server{s}))
	for token := range uint64(100) {
		r.Lookup("node7.example", token, long)
	}
	assert.Len(t, r.Descriptors(nil), 2*mostAtATime)
	got, _ := await(t, r, 100)
	tokens := make(map[uint64]bool)
	for _, answer := range got {
		require.NoError(t, answer.Err)
		tokens[answer.Token] = true
	}
	assert.Len(t, tokens, 100)
}

func TestResolver_waitingTooLongForATurn(t *testing.T) {
	s := serve(t, "127.0.0.1:0", silent)
	r := resolver(t, root(t, []*server{s}))
	for token := range uint64(mostAtATime) {
		r.Lookup("node7.example", token, long)
	}
	r.Lookup("node7.example", mostAtATime, 50*time.Millisecond)
	got, _ := await(t, r, 1)
	assert.EqualValues(t, mostAtATime, got[0].Token)
	assert.ErrorIs(t, got[0].Err, probe.ErrVoid)
	assert.Zero(t, got[0].Sent)
}

func TestResolver_forgetAndClose(t *testing.T) {
	s := serve(t, "127.0.0.1:0", silent)
	r := resolver(t, root(t, []*server{s}))
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries)
	}
	before := count()
	for token := range uint64(mostAtATime + 1) {
		r.Lookup("node7.example", token, long)
	}
	assert.Equal(t, before+2*mostAtATime, count())
	r.Forget(0)
	r.Forget(mostAtATime) // which waits
	r.Forget(99)          // which is none
	r.Lookup("localhost", 50, long)
	r.Forget(50)
	assert.Equal(t, before+2*mostAtATime-2, count())
	sent := r.Receive(func(a Answer) { assert.Fail(t, "forgotten", "%+v", a) })
	assert.Equal(t, mostAtATime*2*(28+12+15+4), sent)
	r.Close()
	assert.Equal(t, before, count())
	_, due := r.Due()
	assert.False(t, due)
}

// The host process may close any descriptor and open its own under the number; that must be left alone.
func TestResolver_descriptorTakenOverByTheHost(t *testing.T) {
	for _, options := range []string{"", "options use-vc"} {
		s := serve(t, "127.0.0.1:0", silent)
		r := resolver(t, root(t, []*server{s}, options))
		r.Lookup("node7.example", 1, long)
		var theirs []int
		for _, d := range r.Descriptors(nil) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
			require.NoError(t, err)
			defer unix.Close(pair[1])
			require.NoError(t, unix.Dup3(pair[0], d.FD, unix.O_CLOEXEC))
			require.NoError(t, unix.Close(pair[0]))
			require.NoError(t, unix.Sendto(pair[1], []byte("the host's data"), 0, nil))
			theirs = append(theirs, d.FD)
		}
		got, _ := await(t, r, 1)
		assert.ErrorIs(t, got[0].Err, stamp.ErrForeign)
		assert.ErrorIs(t, got[0].Err, probe.ErrVoid)
		for _, fd := range theirs {
			buffer := make([]byte, 64)
			n, _, err := unix.Recvfrom(fd, buffer, 0)
			require.NoError(t, err)
			assert.Equal(t, "the host's data", string(buffer[:n]))
			require.NoError(t, unix.Close(fd))
		}
	}
}

func TestResolve(t *testing.T) {
	s := serve(t, "127.0.0.1:0", zone(t, map[string][]string{"node7.example": {"fd00::7", "10.0.0.7"}}))
	r := resolver(t, root(t, []*server{s}))
	found, _, err := Resolve(r.fs, "node7.example", long, never)
	require.NoError(t, err)
	assert.Equal(t, addresses("10.0.0.7", "fd00::7"), found)
	_, _, err = Resolve(r.fs, "node8.example", long, never)
	assert.ErrorIs(t, err, ErrNotFound)
	began := time.Now()
	s.mu.Lock() // so that it does not answer
	_, _, err = Resolve(r.fs, "node7.example", 50*time.Millisecond, never)
	s.mu.Unlock()
	assert.ErrorIs(t, err, probe.ErrLost)
	assert.Less(t, time.Since(began), 5*time.Second)
}

func never() bool { return false }

func TestResolve_givesUp(t *testing.T) {
	s := serve(t, "127.0.0.1:0", zone(t, nil))
	s.mu.Lock() // so that it does not answer
	defer s.mu.Unlock()
	r := resolver(t, root(t, []*server{s}))
	var givenUp atomic.Bool
	time.AfterFunc(50*time.Millisecond, func() { givenUp.Store(true) })
	began := time.Now()
	_, sent, err := Resolve(r.fs, "node7.example", time.Minute, givenUp.Load)
	assert.ErrorIs(t, err, probe.ErrVoid)
	assert.Less(t, time.Since(began), 5*time.Second)
	assert.NotZero(t, sent)
}
