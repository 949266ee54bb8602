package probe

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseTarget(t *testing.T) {
	tests := map[string]Target{
		"10.0.0.2":                   {Method: Auto, Host: "10.0.0.2", Address: netip.MustParseAddr("10.0.0.2")},
		"10.0.0.2:29500":             {Method: Auto, Host: "10.0.0.2", Port: 29500, Address: netip.MustParseAddr("10.0.0.2")},
		"::ffff:10.0.0.2":            {Method: Auto, Host: "::ffff:10.0.0.2", Address: netip.MustParseAddr("10.0.0.2")},
		"fe80::1%eth0":               {Method: Auto, Host: "fe80::1%eth0", Address: netip.MustParseAddr("fe80::1%eth0")},
		"::1":                        {Method: Auto, Host: "::1", Address: netip.IPv6Loopback()},
		"[::1]":                      {Method: Auto, Host: "::1", Address: netip.IPv6Loopback()},
		"[::1]:29500":                {Method: Auto, Host: "::1", Port: 29500, Address: netip.IPv6Loopback()},
		"node7":                      {Method: Auto, Host: "node7"},
		"node7:1":                    {Method: Auto, Host: "node7", Port: 1},
		"node7.cluster.example.:80":  {Method: Auto, Host: "node7.cluster.example.", Port: 80},
		"123456789012":               {Method: Auto, Host: "123456789012"},
		"_ldap._tcp.example":         {Method: Auto, Host: "_ldap._tcp.example"},
		"icmp://10.0.0.2":            {Method: ICMP, Host: "10.0.0.2", Address: netip.MustParseAddr("10.0.0.2")},
		"icmp://::1":                 {Method: ICMP, Host: "::1", Address: netip.IPv6Loopback()},
		"icmp://[fe80::1%25eth0]":    {Method: ICMP, Host: "fe80::1%eth0", Address: netip.MustParseAddr("fe80::1%eth0")},
		"ICMP://node7":               {Method: ICMP, Host: "node7"},
		"tcp://10.0.0.2":             {Method: TCP, Host: "10.0.0.2", Address: netip.MustParseAddr("10.0.0.2")},
		"tcp://node7:29500":          {Method: TCP, Host: "node7", Port: 29500},
		"tcp://[fe80::1%eth0]:65535": {Method: TCP, Host: "fe80::1%eth0", Port: 65535, Address: netip.MustParseAddr("fe80::1%eth0")},
		"udp://10.0.0.2":             {Method: UDP, Host: "10.0.0.2", Port: DefaultUDPPort, Address: netip.MustParseAddr("10.0.0.2")},
		"udp://[::1]:7":              {Method: UDP, Host: "::1", Port: 7, Address: netip.IPv6Loopback()},
		"dns://example.com":          {Method: DNS, Host: "example.com"},
		"dns://gateway":              {Method: DNS, Host: "gateway"},
		"gateway":                    {Method: Auto, Host: "gateway", Gateway: true},
		"gateway:80":                 {Method: Auto, Host: "gateway", Port: 80, Gateway: true},
		"icmp://gateway":             {Method: ICMP, Host: "gateway", Gateway: true},
		"gateway.":                   {Method: Auto, Host: "gateway."},
	}
	for text, want := range tests {
		want.Text = text
		got, err := ParseTarget(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
}

func TestParseTarget_sentences(t *testing.T) {
	tests := map[string]string{
		"":                                   `target "": is empty; write an address or a name`,
		"http://10.0.0.2":                    `unknown scheme "http"; known are icmp://, tcp://, udp:// and dns://`,
		"://10.0.0.2":                        `unknown scheme ""`,
		"tcp://":                             `"" is no name`,
		"tcp://:80":                          `"" is no name`,
		"tcp://node7:":                       `"" is no port; write a number from 1 to 65535`,
		"tcp://node7:0":                      `"0" is no port`,
		"tcp://node7:65536":                  `"65536" is no port`,
		"tcp://node7:+80":                    `"+80" is no port`,
		"tcp://node7:80/":                    `"80/" is no port`,
		"tcp://::1":                          `write the IPv6 address in brackets: tcp://[::1] or tcp://[::1]:29500`,
		"udp://::1":                          `udp://[::1]:29500`,
		"[::1":                               `the closing ] is missing`,
		"[::1]80":                            `"80" follows the ]`,
		"[node7]:80":                         `only an IPv6 address stands in brackets`,
		"[10.0.0.2]:80":                      `only an IPv6 address stands in brackets`,
		"1:2:3":                              `"1:2:3" is no IPv6 address`,
		"icmp://node7:80":                    `icmp:// takes no port; write icmp://node7`,
		"dns://node7:53":                     `dns:// takes no port`,
		"dns://10.0.0.2":                     `10.0.0.2 is an address and has nothing to resolve; write a name`,
		"dns://127.0.0.53/node7":             `neither an address nor a name`,
		"0.0.0.0":                            `0.0.0.0 is no host's address`,
		"::":                                 `:: is no host's address`,
		"224.0.0.1":                          `the address of many hosts`,
		"ff02::1%eth0":                       `the address of many hosts`,
		"255.255.255.255":                    `the address of many hosts`,
		"fe80::1":                            `say which interface, as in fe80::1%eth0`,
		"2001:db8::1%eth0":                   `needs no interface; write 2001:db8::1`,
		"fe80::1%" + strings.Repeat("e", 16): `is no interface's name`,
		"10.0.0":                             `"10.0.0" is no IPv4 address; write four numbers`,
		"10.0.0.256":                         `is no IPv4 address`,
		"10.0.0.2 ":                          `neither an address nor a name`,
		"node 7":                             `neither an address nor a name`,
		"user@node7":                         `neither an address nor a name`,
		"knüpfen.example":                    `others in their xn-- form`,
		"a..b":                               `between its dots`,
		".":                                  `between its dots`,
		strings.Repeat("a", 64):              `between its dots stand 1 to 63 bytes`,
		strings.Repeat("abc.", 64) + "de":    `the name has 258 bytes; at most 253`,
	}
	for text, want := range tests {
		_, err := ParseTarget(text)
		assert.ErrorContains(t, err, want, text)
		assert.ErrorContains(t, err, "target \"", text)
	}
	_, err := ParseTarget(strings.Repeat("x", 1<<20))
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 300)
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"10.0.0.2", "fe80::1%eth0", "icmp://node7", "tcp://[::1]:29500", "udp://10.0.0.2", "dns://example.com",
		"gateway", "[::1", "tcp://::1", "a..b", "::ffff:1.2.3.4", "icmp://[fe80::1%25eth0]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		target, err := ParseTarget(text)
		if err != nil {
			require.Zero(t, target)
			require.Less(t, len(err.Error()), 1000)
			return
		}
		require.Equal(t, text, target.Text)
		require.NotEmpty(t, target.Host)
		require.Contains(t, []Method{Auto, ICMP, TCP, UDP, DNS}, target.Method)
		switch {
		case target.Address.IsValid():
			require.False(t, target.Gateway)
			require.NoError(t, checkAddress(target.Address))
			require.NotEqual(t, DNS, target.Method)
		case !target.Gateway:
			require.NoError(t, CheckName(target.Host))
		}
		require.True(t, target.Port != 0 || target.Method != UDP)
		require.True(t, target.Port == 0 || target.Method != ICMP && target.Method != DNS)
	})
}
