package cluster

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// usual is a digest as a rank of a job of four nodes has it.
func usual(rank uint64) Digest {
	d := UnknownDigest()
	d.Rank, d.LocalRank, d.WorldSize, d.Node, d.Process = rank, 0, 4, 0xabc+rank, 1_700_000_000_000_000_000
	d.Hostname, d.Sequence, d.Interval, d.Window, d.Sampled, d.WallSeconds = "node7", 12, 2*time.Second, 2*time.Second, 24, 1.7e9
	d.ReceiveBytesTotal, d.TransmitBytesTotal = 1<<40, 1<<39
	d.ReceiveBytesPerSecond, d.TransmitBytesPerSecond = 1.25e9, 1e9
	d.ReceiveBestBytesPerSecond, d.TransmitBestBytesPerSecond = 1.5e9, 2e9
	d.CapacityBitsPerSecond, d.RetransmitRatio, d.Drops, d.Errors = 25e9, 0.015625, 3, 0
	d.RTTP50Seconds, d.LossRatio, d.RDMABytesPerSecond = 0.000244140625, 0, math.NaN()
	d.Plane, d.Interface, d.WrongInterface = "tcp", "eth0", true
	d.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::7")}
	d.DropsTotal, d.ErrorsTotal, d.CountedMicroseconds = 70, 0, 90e6
	d.CollectiveRatio, d.CollectivesTotal, d.CollectiveBytes, d.BusBW = 0.5, 400, 1<<30, 1e9
	d.Pending, d.PendingSequence, d.PendingOp, d.Phase = 1500*time.Millisecond, 401, "all_reduce", "weight_sync"
	d.PendingCount = 3
	for i := range uint64(4) {
		p := UnknownPeer()
		p.Rank, p.Several, p.Address, p.SentBytes = i, i == 2, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String(), (9-i)<<30
		p.SegmentsSent, p.Retransmitted, p.RTTSeconds, p.RTTMinSeconds, p.ProbeRTTLastSeconds = 1000, i, 0.00048828125, 0.0001220703125, 0.000244140625
		d.Peers = append(d.Peers, p)
	}
	for i := range 12 {
		d.Marks = append(d.Marks, Mark{Sequence: uint64(1000 + 8*i), Duration: 62500 * time.Microsecond, Symmetric: true})
	}
	return d
}

// same compares digests, NaN being NaN.
func same(t *testing.T, want, got Digest) {
	t.Helper()
	assert.Equal(t, strings.ReplaceAll(dump(want), "[]", "<nil>"), strings.ReplaceAll(dump(got), "[]", "<nil>"))
}

func TestDigest_roundTrip(t *testing.T) {
	d := usual(3)
	text := d.Encode()
	assert.LessOrEqual(t, len(text), MostDigestBytes)
	got, err := ParseDigest(text)
	require.NoError(t, err)
	d.Peers = mostImportant(d.Peers)
	same(t, d, got)

	nothing := UnknownDigest()
	nothing.Sequence = 1
	got, err = ParseDigest(nothing.Encode())
	require.NoError(t, err)
	same(t, nothing, got)
}

// The form stays as it is: what is written today is read by every later version.
func TestDigest_golden(t *testing.T) {
	d := usual(3)
	const want = "6e6d64010129040105bf0a00000000000000002a36fe9c97170d81897a81897a00000040fc54d941056e6f64653719025a81808080802081" +
		"8080808010f902954e286b6e4e5ed0b24e286bee4e81f4f6905d0000803c040100008039000000000000c07f0374637004657468300102" +
		"040a00000710fd00000000000000000000000000000747018195f52a032c0000003f91038180808004286b6e4ee1c65b92030a616c6c5f726564756365" +
		"0b7765696768745f73796e63040468199d0201040a0000008180808024e9070100003a000039008039199d0204040a0000038180808018e9" +
		"070400003a000039008039199d0202040a0000018180808020e9070200003a000039008039199f0203040a000002818080801ce9070300" +
		"003a0000390080390531d10f00803d1100803d1100803d1100803d1100803d1100803d1100803d1100803d1100803d1100803d1100803d" +
		"1100803d"
	assert.Equal(t, want, hex.EncodeToString(d.Encode()))

	// As it was written before digests told how many collectives are under way.
	older := strings.NewReplacer("032c", "032b", "73796e630404", "73796e6304").Replace(want)
	before, err := hex.DecodeString(older)
	require.NoError(t, err)
	got, err := ParseDigest(before)
	require.NoError(t, err)
	d.Peers, d.PendingCount = mostImportant(d.Peers), None
	same(t, d, got)

	// As it was written before digests told drops, errors and the time since the monitor started.
	before, err = hex.DecodeString(strings.NewReplacer("19025a", "190254", "0747018195f52a", "07").Replace(older))
	require.NoError(t, err)
	got, err = ParseDigest(before)
	require.NoError(t, err)
	d.DropsTotal, d.ErrorsTotal, d.CountedMicroseconds = None, None, None
	same(t, d, got)
}

// Whatever is in it, a digest is at most 512 bytes, is understood, and says again the same.
func TestDigest_random(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 800 {
		d := wild(random)
		text := d.Encode()
		require.LessOrEqual(t, len(text), MostDigestBytes)
		once, err := ParseDigest(text)
		require.NoError(t, err)
		again, err := ParseDigest(once.Encode())
		require.NoError(t, err)
		require.Equal(t, dump(once), dump(again))

		require.Equal(t, d.Rank, once.Rank)
		require.Equal(t, d.ReceiveBytesTotal, once.ReceiveBytesTotal)
		require.Equal(t, math.IsNaN(d.LossRatio), math.IsNaN(once.LossRatio))
		if !math.IsNaN(d.ReceiveBytesPerSecond) {
			require.InEpsilon(t, d.ReceiveBytesPerSecond+1, once.ReceiveBytesPerSecond+1, 1e-6)
		}
		for i, p := range once.Peers {
			of := mostImportant(d.Peers)[i]
			require.Equal(t, of.SentBytes, p.SentBytes)
			require.Equal(t, math.IsNaN(of.RTTSeconds), math.IsNaN(p.RTTSeconds))
			if !math.IsNaN(of.RTTSeconds) {
				require.InEpsilon(t, of.RTTSeconds+1e-30, p.RTTSeconds+1e-30, 2e-5)
			}
		}
		for i, m := range once.Marks {
			of := d.Marks[len(d.Marks)-len(once.Marks)+i]
			require.Equal(t, of.Sequence, m.Sequence, "the newest are kept")
			require.InDelta(t, float64(of.Duration), float64(m.Duration), 2e-5*float64(of.Duration)+1)
		}
	}
}

// wild is a digest of anything that has its type.
func wild(random *rand.Rand) Digest {
	count := func() uint64 {
		if random.IntN(4) == 0 {
			return None
		}
		return random.Uint64() >> random.IntN(64)
	}
	real := func() float64 {
		if random.IntN(4) == 0 {
			return math.NaN()
		}
		return math.Exp2(float64(random.IntN(200) - 100))
	}
	text := func(most int) string {
		letters := []rune("aé漢🙂")
		var b strings.Builder
		for range random.IntN(most) {
			b.WriteRune(letters[random.IntN(len(letters))])
		}
		return b.String()
	}
	address := func() netip.Addr {
		var bytes [16]byte
		for i := range bytes {
			bytes[i] = byte(random.Uint32())
		}
		return netip.AddrFrom16(bytes)
	}
	d := UnknownDigest()
	d.Rank, d.LocalRank, d.WorldSize = uint64(random.Int32()), uint64(random.Int32()), None
	d.Node, d.Process, d.Sequence, d.Hostname = random.Uint64(), random.Uint64(), 1+random.Uint64()>>1, text(80)
	d.Interval, d.Window, d.WallSeconds = time.Duration(random.Int64()>>10), NoTime, real()
	d.ReceiveBytesTotal, d.TransmitBytesTotal, d.Drops, d.Errors = count(), count(), count(), count()
	d.DropsTotal, d.ErrorsTotal, d.CountedMicroseconds = count(), count(), count()
	for _, to := range []*float64{&d.ReceiveBytesPerSecond, &d.TransmitBytesPerSecond, &d.ReceiveBestBytesPerSecond,
		&d.TransmitBestBytesPerSecond, &d.CapacityBitsPerSecond, &d.RetransmitRatio, &d.RTTP50Seconds, &d.LossRatio,
		&d.RDMABytesPerSecond, &d.CollectiveRatio, &d.BusBW} {
		*to = real()
	}
	d.Plane, d.Interface, d.PendingOp, d.Phase = text(30), text(30), text(30), text(30)
	for range random.IntN(5) {
		d.Addresses = append(d.Addresses, address())
	}
	d.CollectivesTotal, d.CollectiveBytes, d.PendingSequence = count(), count(), count()
	for range random.IntN(20) {
		p := UnknownPeer()
		p.Address, p.SentBytes, p.RTTSeconds, p.ProbeRTTLastSeconds = address().String(), count(), real(), real()
		if random.IntN(3) > 0 {
			p.SegmentsSent, p.Retransmitted = random.Uint64(), random.Uint64()>>random.IntN(64)
		}
		p.RTTMinSeconds, p.DeliveryBytesPerSec, p.ProbeRTTMinSeconds, p.ProbeSent, p.ProbeLost = real(), real(), real(), count(), count()
		if random.IntN(3) == 0 {
			p.Address = text(100)
		}
		if random.IntN(3) == 0 {
			p.Rank, p.Several = uint64(random.Int32()), random.IntN(2) == 0
		}
		d.Peers = append(d.Peers, p)
	}
	sequence := uint64(0)
	for range random.IntN(20) {
		sequence += random.Uint64() >> (5 + random.IntN(55))
		d.Marks = append(d.Marks, Mark{sequence, time.Duration(random.Int64N(int64(time.Hour))), random.IntN(2) == 0})
	}
	return d
}

func TestDigest_namesAreCutBetweenCharacters(t *testing.T) {
	d := usual(0)
	d.Hostname = strings.Repeat("漢", 20) // of 3 bytes
	d.Phase = "sync\xff"
	got, err := ParseDigest(d.Encode())
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("漢", 10), got.Hostname)
	assert.Equal(t, "sync?", got.Phase)
}

// Many peers and marks: those that matter most are told of.
func TestDigest_cut(t *testing.T) {
	d := usual(0)
	d.Hostname, d.Peers, d.Marks = strings.Repeat("h", 32), nil, nil
	for i := range 100 {
		p := UnknownPeer()
		p.Address, p.SentBytes, p.RTTMinSeconds, p.SegmentsSent, p.Retransmitted = netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}).String(), uint64(1000+i), 0.001, 100, 0
		d.Peers = append(d.Peers, p)
	}
	d.Peers[20].Retransmitted = 10
	d.Peers[30].RTTMinSeconds = 0.2
	d.Peers[40].ProbeSent, d.Peers[40].ProbeLost = 10, 5
	for i := range 30 {
		d.Marks = append(d.Marks, Mark{Sequence: uint64(i), Duration: time.Second})
	}
	got, err := ParseDigest(d.Encode())
	require.NoError(t, err)
	require.Len(t, got.Peers, MostDigestPeers)
	var addresses []string
	for _, p := range got.Peers {
		addresses = append(addresses, p.Address)
	}
	assert.Equal(t, []string{"10.0.1.99", "10.0.1.40", "10.0.1.30", "10.0.1.98", "10.0.1.20"}, addresses[:5])
	require.Len(t, got.Marks, MostMarks)
	assert.EqualValues(t, 29, got.Marks[MostMarks-1].Sequence)
	assert.EqualValues(t, 18, got.Marks[0].Sequence)
}

func TestParseDigest_garbage(t *testing.T) {
	d := usual(1)
	good := d.Encode()
	changed := func(change func(d *Digest)) []byte {
		d := usual(1)
		change(&d)
		return d.Encode()
	}
	for _, of := range []struct {
		what, want string
		text       []byte
	}{
		{"nothing", "cluster: these 0 bytes are no digest: they do not begin with \"nmd\"", nil},
		{"only the letters", "no digest", good[:3]},
		{"another text", "do not begin with", []byte("GET / HTTP/1.1")},
		{"too long", "513 bytes are no digest; one has at most 512", append(good, make([]byte, 513-len(good))...)},
		{"another version", "a digest of version 9; this netmon reads version 1", append([]byte("nmd\x09"), good[4:]...)},
		{"cut", "section", good[:len(good)/2]},
		{"no section", "does not say whose it is", good[:4]},
		{"a rank too large", "its rank is 2147483648", changed(func(d *Digest) { d.Rank = 1 << 31 })},
		{"no sequence", "its sequence is 0", changed(func(d *Digest) { d.Sequence = 0 })},
		{"an endless time", "a time is +Inf", changed(func(d *Digest) { d.WallSeconds = math.Inf(1) })},
		{"not UTF-8", "in section 1 a text is not UTF-8", []byte(strings.Replace(string(good), "node7", "no\xffe7", 1))},
		{"negative", "in section 2 a number is -", []byte(strings.Replace(string(good), "\x28\x6b\xee\x4e", "\x28\x6b\xee\xce", 1))}, // 2e9
	} {
		_, err := ParseDigest(of.text)
		if assert.Error(t, err, of.what) {
			assert.Contains(t, err.Error(), of.want, of.what)
			assert.True(t, strings.HasPrefix(err.Error(), "cluster: "), of.what)
		}
	}
}

// A newer netmon appends fields to sections and entries, and adds sections; an older one has fewer fields.
func TestParseDigest_otherVersions(t *testing.T) {
	d := usual(1)
	sections := split(t, d.Encode())
	newer := []byte("nmd\x01")
	newer = section(newer, 77, []byte("what nobody knows yet"))
	for number := byte(identitySection); number <= processSection; number++ {
		newer = section(newer, number, append(sections[number], 1, 2, 3))
	}
	var entry coder
	entry.writing = true
	entry.peer(&d.Peers[0])
	longer := append(entry.bytes, 9, 9)
	newer = section(newer, peersSection, append([]byte{byte(len(longer))}, longer...))
	got, err := ParseDigest(newer)
	require.NoError(t, err)
	want := d
	want.Peers, want.Marks = d.Peers[:1], nil
	same(t, want, got)

	older := section([]byte("nmd\x01"), identitySection, sections[identitySection])
	older = section(older, nodeSection, sections[nodeSection][:0])
	got, err = ParseDigest(older)
	require.NoError(t, err)
	assert.Equal(t, d.Hostname, got.Hostname)
	assert.EqualValues(t, None, got.ReceiveBytesTotal)
	assert.True(t, math.IsNaN(got.LossRatio))
	assert.Equal(t, NoTime, got.Pending)
	assert.Empty(t, got.Phase)
	assert.Empty(t, got.Peers)
}

func split(t *testing.T, text []byte) map[byte][]byte {
	t.Helper()
	sections := make(map[byte][]byte)
	for rest := text[4:]; len(rest) > 0; {
		length, n := binary.Uvarint(rest[1:])
		require.Positive(t, n)
		end := 1 + n + int(length)
		sections[rest[0]] = append([]byte{}, rest[1+n:end]...)
		rest = rest[end:]
	}
	return sections
}

func FuzzParseDigest(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 8 {
		d := wild(random)
		f.Add(d.Encode())
	}
	d := usual(2)
	f.Add(d.Encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := ParseDigest(text)
		if err != nil {
			return
		}
		again := d.Encode()
		require.LessOrEqual(t, len(again), MostDigestBytes)
		same, err := ParseDigest(again)
		require.NoError(t, err)
		require.Equal(t, same.Rank, d.Rank)
		require.Equal(t, again, same.Encode())
		NewAggregator().Aggregate(0, time.Unix(0, 0), Request{Digests: [][]byte{text}})
	})
}
