package dns

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
)

func name(text string) dnsmessage.Name { return dnsmessage.MustNewName(text) }

func asked(t testing.TB, text string, kind dnsmessage.Type) question {
	t.Helper()
	q, err := newQuestion(text, kind, 0x1234)
	require.NoError(t, err)
	return q
}

// answer is a proper answer to q with these records, to be spoilt by the test.
func answer(q question, records ...dnsmessage.Resource) dnsmessage.Message {
	return dnsmessage.Message{
		Header:    dnsmessage.Header{ID: q.id, Response: true, RecursionDesired: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{{Name: q.name, Type: q.kind, Class: dnsmessage.ClassINET}},
		Answers:   records,
	}
}

func record(owner string, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name(owner), Class: dnsmessage.ClassINET, TTL: 60}, Body: body}
}

func a(owner, address string) dnsmessage.Resource {
	return record(owner, &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()})
}

func aaaa(owner, address string) dnsmessage.Resource {
	return record(owner, &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(address).As16()})
}

func cname(owner, target string) dnsmessage.Resource {
	return record(owner, &dnsmessage.CNAMEResource{CNAME: name(target)})
}

func packed(t testing.TB, m dnsmessage.Message) []byte {
	t.Helper()
	b, err := m.Pack()
	require.NoError(t, err)
	return b
}

func TestQuestion_pack(t *testing.T) {
	q := asked(t, "node7.example", dnsmessage.TypeAAAA)
	message, err := q.pack(nil, false)
	require.NoError(t, err)
	var got dnsmessage.Message
	require.NoError(t, got.Unpack(message))
	assert.Equal(t, dnsmessage.Header{ID: 0x1234, RecursionDesired: true}, got.Header)
	assert.Equal(t, []dnsmessage.Question{{Name: name("node7.example."), Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET}}, got.Questions)
	assert.Empty(t, got.Additionals)

	message, err = q.pack([]byte{0xff, 0xff}, true)
	require.NoError(t, err)
	require.NoError(t, got.Unpack(message[2:]))
	require.Len(t, got.Additionals, 1)
	assert.Equal(t, dnsmessage.TypeOPT, got.Additionals[0].Header.Type)
	assert.EqualValues(t, ednsBytes, got.Additionals[0].Header.Class)
}

func TestQuestion_read(t *testing.T) {
	v4, v6 := asked(t, "node7.example", dnsmessage.TypeA), asked(t, "node7.example", dnsmessage.TypeAAAA)
	with := func(m dnsmessage.Message, change func(*dnsmessage.Message)) dnsmessage.Message {
		change(&m)
		return m
	}
	code := func(rcode dnsmessage.RCode) dnsmessage.Message {
		return with(answer(v4), func(m *dnsmessage.Message) { m.RCode = rcode })
	}
	var extended dnsmessage.ResourceHeader
	require.NoError(t, extended.SetEDNS0(1232, 16, false))
	chain := []dnsmessage.Resource{a("c.example.", "10.0.0.7"), cname("Node7.example.", "b.example."), cname("b.example.", "C.example.")}
	got := func(list ...string) reply { return reply{verdict: answered, addresses: addresses(list...)} }
	tests := map[string]struct {
		question question
		message  dnsmessage.Message
		want     reply
	}{
		"two addresses":           {v4, answer(v4, a("node7.example.", "10.0.0.7"), a("node7.example.", "10.0.0.8")), got("10.0.0.7", "10.0.0.8")},
		"upper case":              {v4, answer(v4, a("NODE7.Example.", "10.0.0.7")), got("10.0.0.7")},
		"IPv6":                    {v6, answer(v6, aaaa("node7.example.", "2001:db8::7")), got("2001:db8::7")},
		"IPv4 in IPv6":            {v6, answer(v6, aaaa("node7.example.", "::ffff:10.0.0.7")), got("10.0.0.7")},
		"of the other family":     {v6, answer(v6, a("node7.example.", "10.0.0.7")), got()},
		"of another name":         {v4, answer(v4, a("node8.example.", "10.0.0.8")), got()},
		"aliases, in any order":   {v4, answer(v4, chain...), got("10.0.0.7")},
		"an alias to nowhere":     {v4, answer(v4, cname("node7.example.", "b.example.")), got()},
		"an alias to itself":      {v4, answer(v4, cname("node7.example.", "node7.example.")), got()},
		"aliases in a circle":     {v4, answer(v4, cname("node7.example.", "b.example."), cname("b.example.", "node7.example.")), got()},
		"no address":              {v4, answer(v4), got()},
		"no address, said by SOA": {v4, with(answer(v4), func(m *dnsmessage.Message) { m.Authoritative, m.RecursionAvailable = true, false }), got()},
		"class CHAOS": {v4, with(answer(v4, a("node7.example.", "10.0.0.7")), func(m *dnsmessage.Message) {
			m.Answers[0].Header.Class = dnsmessage.ClassCHAOS
		}), got()},
		"lame":      {v4, with(answer(v4), func(m *dnsmessage.Message) { m.RecursionAvailable = false }), reply{verdict: refused, reason: "it neither knows the name nor asks others (lame)"}},
		"NXDOMAIN":  {v4, code(dnsmessage.RCodeNameError), reply{verdict: noName}},
		"SERVFAIL":  {v4, code(dnsmessage.RCodeServerFailure), reply{verdict: refused, reason: "SERVFAIL"}},
		"REFUSED":   {v4, code(dnsmessage.RCodeRefused), reply{verdict: refused, reason: "REFUSED"}},
		"NOTIMP":    {v4, code(dnsmessage.RCodeNotImplemented), reply{verdict: refused, reason: "NOTIMP"}},
		"FORMERR":   {v4, code(dnsmessage.RCodeFormatError), reply{verdict: noEDNS, reason: "FORMERR"}},
		"code 9":    {v4, code(9), reply{verdict: refused, reason: "response code 9"}},
		"truncated": {v4, with(answer(v4, a("node7.example.", "10.0.0.7")), func(m *dnsmessage.Message) { m.Truncated = true }), reply{verdict: truncated}},
		"BADVERS": {v4, with(answer(v4), func(m *dnsmessage.Message) {
			m.Additionals = []dnsmessage.Resource{{Header: extended, Body: &dnsmessage.OPTResource{}}}
		}), reply{verdict: noEDNS, reason: "BADVERS"}},
		"nothing but a header":              {v4, with(code(dnsmessage.RCodeRefused), func(m *dnsmessage.Message) { m.Questions = nil }), reply{verdict: refused, reason: "REFUSED"}},
		"nothing but a header, and success": {v4, with(answer(v4), func(m *dnsmessage.Message) { m.Questions = nil }), reply{}},
		"nothing but a header, and no name": {v4, with(code(dnsmessage.RCodeNameError), func(m *dnsmessage.Message) { m.Questions = nil }), reply{}},
		"another id":                        {v4, with(answer(v4, chain...), func(m *dnsmessage.Message) { m.ID++ }), reply{}},
		"another name asked":                {v4, with(answer(v4, chain...), func(m *dnsmessage.Message) { m.Questions[0].Name = name("node8.example.") }), reply{}},
		"another type asked":                {v4, with(answer(v4, chain...), func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAAAA }), reply{}},
		"another class asked":               {v4, with(answer(v4, chain...), func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }), reply{}},
		"two questions":                     {v4, with(answer(v4, chain...), func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }), reply{}},
		"a question":                        {v4, with(answer(v4, chain...), func(m *dnsmessage.Message) { m.Response = false }), reply{}},
		"another operation":                 {v4, with(answer(v4, chain...), func(m *dnsmessage.Message) { m.OpCode = 5 }), reply{}},
	}
	for title, tt := range tests {
		assert.Equal(t, tt.want, tt.question.read(packed(t, tt.message)), title)
	}
	whole := packed(t, answer(v4, chain...))
	assert.Equal(t, "its answer is damaged", v4.read(whole[:len(whole)-1]).reason, "cut at its end")
	for length := range len(whole) {
		assert.Empty(t, v4.read(whole[:length]).addresses, "cut after %d bytes", length)
	}
	assert.Equal(t, reply{}, v4.read(bytes.Repeat([]byte{0xc0}, 600)))
}

func FuzzQuestion_read(f *testing.F) {
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		q := asked(f, "node7.example", kind)
		f.Add(packed(f, answer(q, a("c.example.", "10.0.0.7"), cname("node7.example.", "c.example."), aaaa("c.example.", "::7"))), kind == dnsmessage.TypeA)
		f.Add(packed(f, answer(q)), kind == dnsmessage.TypeA)
	}
	f.Fuzz(func(t *testing.T, message []byte, ipv4 bool) {
		kind := dnsmessage.TypeAAAA
		if ipv4 {
			kind = dnsmessage.TypeA
		}
		q := asked(t, "node7.example", kind)
		got := q.read(message)
		require.LessOrEqual(t, len(got.addresses), mostAddresses)
		require.True(t, len(got.addresses) == 0 || got.verdict == answered)
		require.Equal(t, got.reason != "", got.verdict == refused || got.verdict == noEDNS)
		if len(message) < 12 || message[0] != 0x12 || message[1] != 0x34 {
			require.Equal(t, foreign, got.verdict)
		}
	})
}
