package cluster

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// The encoded form: three letters, a version, then sections, each with its number, its length and its fields in a fixed order. A
// newer netmon appends fields and sections: what a reader does not know it skips, what a writer did not know stays unknown. The
// version changes only if that is not enough.
//
// Whole numbers are varints of the number plus one, 0 for None; shares and rates are float32; those of peers and marks keep 16 bits
// of the mantissa, an error of 1 in 100,000.
const (
	magic   = "nmd"
	version = 1
)

// The numbers of sections.
const (
	identitySection = iota + 1
	nodeSection
	processSection
	peersSection
	marksSection
)

// coder writes fields, or reads them in the same order.
type coder struct {
	writing bool
	bytes   []byte // written so far, or still to be read
	wrong   string // what is wrong with what was read, "" for nothing
}

func (c *coder) fail(format string, values ...any) {
	if c.wrong == "" {
		c.wrong = fmt.Sprintf(format, values...)
	}
	c.bytes = nil
}

// take reads n bytes; ok is false at the end of a section, whose fields end there for a writer that did not know more.
func (c *coder) take(n int) (bytes []byte, ok bool) {
	if len(c.bytes) == 0 && n > 0 {
		return nil, false
	}
	if len(c.bytes) < n {
		c.fail("a field of %d bytes begins %d bytes before the end of its section", n, len(c.bytes))
		return nil, false
	}
	bytes, c.bytes = c.bytes[:n], c.bytes[n:]
	return bytes, true
}

func (c *coder) uvarint() (value uint64, ok bool) {
	if len(c.bytes) == 0 {
		return 0, false
	}
	value, n := binary.Uvarint(c.bytes)
	if n <= 0 {
		c.fail("a number has no end")
		return 0, false
	}
	c.bytes = c.bytes[n:]
	return value, true
}

// count is a whole number.
func (c *coder) count(value *uint64) {
	if c.writing {
		c.bytes = binary.AppendUvarint(c.bytes, *value+1)
		return
	}
	*value = None
	if stored, ok := c.uvarint(); ok {
		*value = stored - 1
	}
}

// identity is a number of which all bits count.
func (c *coder) identity(value *uint64) {
	if c.writing {
		c.bytes = binary.LittleEndian.AppendUint64(c.bytes, *value)
		return
	}
	*value = 0
	if bytes, ok := c.take(8); ok {
		*value = binary.LittleEndian.Uint64(bytes)
	}
}

// duration is a time that is not negative, to the microsecond.
func (c *coder) duration(value *time.Duration) {
	micros := None
	if c.writing {
		if *value >= 0 {
			micros = uint64(value.Round(time.Microsecond) / time.Microsecond)
		}
		c.count(&micros)
		return
	}
	*value = NoTime
	if c.count(&micros); micros <= math.MaxInt64/uint64(time.Microsecond) {
		*value = time.Duration(micros) * time.Microsecond
	}
}

// whole is a number of which nothing but its fraction is lost.
func (c *coder) whole(value *float64) {
	stored := None
	if c.writing && *value >= 0 && *value < 1<<63 {
		stored = uint64(*value)
	}
	if c.count(&stored); !c.writing {
		if *value = math.NaN(); stored != None {
			*value = float64(stored)
		}
	}
}

// real is a number that is not negative, 4 bytes of it.
func (c *coder) real(value *float64) { c.bits(value, 4) }

// coarse is one of which 3 bytes are enough.
func (c *coder) coarse(value *float64) { c.bits(value, 3) }

func (c *coder) bits(value *float64, bytes int) {
	dropped := 8 * (4 - bytes)
	if c.writing {
		bits := uint32(0x7fc0_0000) // NaN
		if !math.IsNaN(*value) {
			bits = math.Float32bits(float32(min(max(*value, 0), math.MaxFloat32)))
			if half := uint32(1) << dropped >> 1; bits+half < 0x7f80_0000 {
				bits += half
			}
		}
		for i := range bytes {
			c.bytes = append(c.bytes, byte(bits>>(dropped+8*i)))
		}
		return
	}
	*value = math.NaN()
	stored, ok := c.take(bytes)
	if !ok {
		return
	}
	bits := uint32(0)
	for i, b := range stored {
		bits |= uint32(b) << (dropped + 8*i)
	}
	if *value = float64(math.Float32frombits(bits)); *value < 0 || math.IsInf(*value, 0) {
		c.fail("a number is %v", *value)
		*value = math.NaN()
	}
}

// wall is a time stamp.
func (c *coder) wall(value *float64) {
	bits := math.Float64bits(*value)
	if c.identity(&bits); !c.writing {
		if *value = math.Float64frombits(bits); math.IsInf(*value, 0) {
			c.fail("a time is %v", *value)
			*value = math.NaN()
		}
	}
}

// text is one of at most so many bytes; a longer one is cut between characters.
func (c *coder) text(value *string, most int) {
	if c.writing {
		short := cut(*value, most)
		c.bytes = append(c.bytes, byte(len(short)))
		c.bytes = append(c.bytes, short...)
		return
	}
	*value = ""
	length, ok := c.take(1)
	if !ok {
		return
	}
	text, ok := c.take(int(length[0]))
	switch {
	case !ok && length[0] > 0:
		c.fail("a text has no end")
	case !utf8.Valid(text):
		c.fail("a text is not UTF-8")
	case int(length[0]) > most:
		c.fail("a text is %d bytes long, and %d are the most", length[0], most)
	default:
		*value = string(text)
	}
}

// cut is text as UTF-8 of at most so many bytes, which ends between characters.
func cut(text string, most int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

func (c *coder) flag(value *bool) {
	if c.writing {
		bit := byte(0)
		if *value {
			bit = 1
		}
		c.bytes = append(c.bytes, bit)
		return
	}
	bytes, ok := c.take(1)
	*value = ok && bytes[0]&1 != 0
}

// section writes or reads the fields of a section. Peers and marks are only read: Encode writes as many as fit.
func (d *Digest) section(number int, c *coder) {
	switch number {
	case identitySection:
		d.identity(c)
	case nodeSection:
		d.node(c)
	case processSection:
		d.process(c)
	case peersSection:
		d.parsePeers(c)
	case marksSection:
		d.parseMarks(c)
	}
}

// identity: who says it.
func (d *Digest) identity(c *coder) {
	c.count(&d.Rank)
	c.count(&d.LocalRank)
	c.count(&d.WorldSize)
	c.identity(&d.Node)
	c.identity(&d.Process)
	c.count(&d.Sequence)
	c.duration(&d.Interval)
	c.duration(&d.Window)
	c.wall(&d.WallSeconds)
	c.text(&d.Hostname, mostNameBytes)
	c.count(&d.Sampled)
}

// node: what is the same for all processes of it.
func (d *Digest) node(c *coder) {
	c.count(&d.ReceiveBytesTotal)
	c.count(&d.TransmitBytesTotal)
	c.real(&d.ReceiveBytesPerSecond)
	c.real(&d.TransmitBytesPerSecond)
	c.real(&d.ReceiveBestBytesPerSecond)
	c.real(&d.TransmitBestBytesPerSecond)
	c.whole(&d.CapacityBitsPerSecond)
	c.real(&d.RetransmitRatio)
	c.count(&d.Drops)
	c.count(&d.Errors)
	c.real(&d.RTTP50Seconds)
	c.real(&d.LossRatio)
	c.real(&d.RDMABytesPerSecond)
	c.text(&d.Plane, mostShortBytes)
	c.text(&d.Interface, mostShortBytes)
	c.flag(&d.WrongInterface)
	c.addresses(&d.Addresses)
	c.count(&d.DropsTotal)
	c.count(&d.ErrorsTotal)
	c.count(&d.CountedMicroseconds)
}

// process: what is of this process only.
func (d *Digest) process(c *coder) {
	c.real(&d.CollectiveRatio)
	c.count(&d.CollectivesTotal)
	c.count(&d.CollectiveBytes)
	c.real(&d.BusBW)
	c.duration(&d.Pending)
	c.count(&d.PendingSequence)
	c.text(&d.PendingOp, mostShortBytes)
	c.text(&d.Phase, mostShortBytes)
	c.count(&d.PendingCount)
}

func (c *coder) addresses(list *[]netip.Addr) {
	if c.writing {
		some := (*list)[:min(len(*list), mostAddresses)]
		c.bytes = append(c.bytes, byte(len(some)))
		for _, address := range some {
			bytes := address.WithZone("").AsSlice()
			c.bytes = append(append(c.bytes, byte(len(bytes))), bytes...)
		}
		return
	}
	*list = nil
	number, ok := c.take(1)
	for i := 0; ok && i < int(number[0]); i++ {
		var length, bytes []byte
		if length, ok = c.take(1); ok {
			bytes, ok = c.take(int(length[0]))
		}
		address, valid := netip.AddrFromSlice(bytes)
		if !ok || !valid {
			c.fail("an address is of %d bytes", len(bytes))
			return
		}
		if i < mostAddresses {
			*list = append(*list, address)
		}
	}
}

// What is known of a peer, in the first number of its entry.
const (
	hasRank = 1 << iota
	hasSeveral
	hasSegments
	hasRTT
	hasRTTMin
	hasDelivery
	hasProbeRTT
	hasProbes
	hasProbeLast
)

// peer is the entry of a peer, without its length.
func (c *coder) peer(p *PeerDigest) {
	reals := [...]struct {
		has   uint64
		value *float64
	}{
		{hasRTT, &p.RTTSeconds}, {hasRTTMin, &p.RTTMinSeconds},
		{hasDelivery, &p.DeliveryBytesPerSec}, {hasProbeRTT, &p.ProbeRTTMinSeconds}, {hasProbeLast, &p.ProbeRTTLastSeconds},
	}
	known := uint64(0)
	if c.writing {
		if p.Rank != None {
			known |= hasRank
		}
		if p.Several {
			known |= hasSeveral
		}
		if p.SegmentsSent != None && p.Retransmitted != None {
			known |= hasSegments
		}
		if p.ProbeSent != None && p.ProbeLost != None {
			known |= hasProbes
		}
		for _, r := range reals {
			if !math.IsNaN(*r.value) {
				known |= r.has
			}
		}
		c.bytes = binary.AppendUvarint(c.bytes, known)
	} else {
		known, _ = c.uvarint()
		*p = UnknownPeer()
		p.Several = known&hasSeveral != 0
	}
	if known&hasRank != 0 {
		c.count(&p.Rank)
	}
	c.address(&p.Address)
	c.count(&p.SentBytes)
	if known&hasSegments != 0 {
		c.count(&p.SegmentsSent)
		c.count(&p.Retransmitted)
	}
	for _, r := range reals {
		if known&r.has != 0 {
			c.coarse(r.value)
		}
	}
	if known&hasProbes != 0 {
		c.count(&p.ProbeSent)
		c.count(&p.ProbeLost)
	}
}

// address is an IP address in its 4 or 16 bytes, or a text after a byte that says so.
func (c *coder) address(value *string) {
	const isText = 0
	if c.writing {
		if address, err := netip.ParseAddr(*value); err == nil && address.Zone() == "" {
			bytes := address.AsSlice()
			c.bytes = append(append(c.bytes, byte(len(bytes))), bytes...)
			return
		}
		c.bytes = append(c.bytes, isText)
		c.text(value, mostAddressBytes)
		return
	}
	length, ok := c.take(1)
	if !ok {
		return
	}
	if length[0] == isText {
		c.text(value, mostAddressBytes)
		return
	}
	bytes, _ := c.take(int(length[0]))
	address, valid := netip.AddrFromSlice(bytes)
	if !valid {
		c.fail("an address is of %d bytes", length[0])
		return
	}
	*value = address.String()
}

// mark is a collective; its sequence is told by the difference to the one before.
func (c *coder) mark(m *Mark, before uint64) {
	symmetric := uint64(0)
	if m.Symmetric {
		symmetric = 1
	}
	seconds := m.Duration.Seconds()
	if c.writing {
		c.bytes = binary.AppendUvarint(c.bytes, (m.Sequence-before)<<1|symmetric)
		c.coarse(&seconds)
		return
	}
	stored, _ := c.uvarint()
	c.coarse(&seconds)
	m.Sequence, m.Symmetric, m.Duration = before+stored>>1, stored&1 != 0, NoTime
	if seconds < mostMarkSeconds { // not for NaN
		m.Duration = time.Duration(math.Round(seconds * 1e9))
	}
}

// A collective that lasted longer is no mark: a day.
const mostMarkSeconds = 86400

// section appends a section to a digest.
func section(to []byte, number byte, fields []byte) []byte {
	to = append(to, number)
	to = binary.AppendUvarint(to, uint64(len(fields)))
	return append(to, fields...)
}

const sectionHead = 3 // bytes, at most: number and length

// Encode writes a digest in at most MostDigestBytes. Peers and marks that do not fit are left out: of marks the oldest; of peers
// those that are neither among the ones with most traffic, nor with the worst loss, nor with the longest round trips.
func (d *Digest) Encode() []byte {
	to := append(make([]byte, 0, MostDigestBytes), magic...)
	to = append(to, version)
	for number := identitySection; number <= processSection; number++ {
		c := coder{writing: true}
		d.section(number, &c)
		to = section(to, byte(number), c.bytes)
	}
	room := MostDigestBytes - len(to) - 2*sectionHead
	// Marks get half of it, or as much as they need; peers the rest, and marks what peers leave.
	peers := d.encodePeers(room - min(len(d.encodeMarks(room)), room/2))
	marks := d.encodeMarks(room - len(peers))
	return section(section(to, peersSection, peers), marksSection, marks)
}

func (d *Digest) encodePeers(room int) (fields []byte) {
	for _, p := range mostImportant(d.Peers) {
		c := coder{writing: true}
		c.peer(&p)
		if len(fields)+1+len(c.bytes) > room {
			break
		}
		fields = append(append(fields, byte(len(c.bytes))), c.bytes...)
	}
	return fields
}

// encodeMarks writes the newest marks that fit.
func (d *Digest) encodeMarks(room int) (fields []byte) {
	marks := d.Marks[max(0, len(d.Marks)-MostMarks):]
	for {
		c := coder{writing: true}
		before := uint64(0)
		for i := range marks {
			c.mark(&marks[i], before)
			before = marks[i].Sequence
		}
		if len(c.bytes) <= room {
			return c.bytes
		}
		marks = marks[1:]
	}
}

// ParseDigest reads a digest that Encode wrote, or that of another version of netmon.
// Errors: a sentence that says what is wrong.
func ParseDigest(text []byte) (d Digest, err error) {
	switch {
	case len(text) > MostDigestBytes:
		return d, fmt.Errorf("cluster: %d bytes are no digest; one has at most %d", len(text), MostDigestBytes)
	case len(text) <= len(magic) || string(text[:len(magic)]) != magic:
		return d, fmt.Errorf("cluster: these %d bytes are no digest: they do not begin with %q", len(text), magic)
	case text[len(magic)] != version:
		return d, fmt.Errorf("cluster: a digest of version %d; this netmon reads version %d", text[len(magic)], version)
	}
	rest := coder{bytes: text[len(magic)+1:]}
	sections := [marksSection + 1][]byte{}
	for len(rest.bytes) > 0 {
		number := rest.bytes[0]
		rest.bytes = rest.bytes[1:]
		length, ok := rest.uvarint()
		if !ok || length > uint64(len(rest.bytes)) {
			return d, fmt.Errorf("cluster: a damaged digest: its section %d has no end", number)
		}
		if int(number) < len(sections) {
			sections[number] = rest.bytes[:length:length]
		}
		rest.bytes = rest.bytes[length:]
	}
	if len(sections[identitySection]) == 0 {
		return d, fmt.Errorf("cluster: a damaged digest: it does not say whose it is")
	}
	for number := identitySection; number <= marksSection; number++ {
		c := coder{bytes: sections[number]}
		if d.section(number, &c); c.wrong != "" {
			return Digest{}, fmt.Errorf("cluster: a damaged digest: in section %d %s", number, c.wrong)
		}
	}
	if err := d.check(); err != nil {
		return Digest{}, err
	}
	return d, nil
}

func (d *Digest) parsePeers(c *coder) {
	if len(c.bytes) > 0 {
		d.Peers = make([]PeerDigest, 0, MostDigestPeers)
	}
	for len(c.bytes) > 0 && len(d.Peers) < MostDigestPeers {
		length, _ := c.take(1)
		entry, ok := c.take(int(length[0]))
		if !ok || len(entry) == 0 {
			c.fail("an entry has no end")
			return
		}
		d.Peers = append(d.Peers, PeerDigest{})
		one := coder{bytes: entry}
		if one.peer(&d.Peers[len(d.Peers)-1]); one.wrong != "" {
			c.fail("%s", one.wrong)
			return
		}
	}
}

func (d *Digest) parseMarks(c *coder) {
	before := uint64(0)
	if len(c.bytes) > 0 {
		d.Marks = make([]Mark, 0, MostMarks)
	}
	for len(c.bytes) > 0 && len(d.Marks) < MostMarks {
		var m Mark
		c.mark(&m, before)
		if c.wrong == "" && m.Duration != NoTime {
			d.Marks = append(d.Marks, m)
		}
		before = m.Sequence
	}
}

// mostRank bounds ranks and sizes of jobs: beyond, it is no such number.
const mostRank = 1<<31 - 1

// check refuses numbers that no process says.
func (d *Digest) check() error {
	wrong := func(name string, value uint64) error {
		return fmt.Errorf("cluster: a damaged digest: %s is %d", name, value)
	}
	switch {
	case d.Rank != None && d.Rank > mostRank:
		return wrong("its rank", d.Rank)
	case d.LocalRank != None && d.LocalRank > mostRank:
		return wrong("its local rank", d.LocalRank)
	case d.WorldSize != None && d.WorldSize > mostRank:
		return wrong("its world size", d.WorldSize)
	case d.Sequence == None || d.Sequence == 0:
		return wrong("its sequence", d.Sequence)
	}
	for i := range d.Peers {
		if rank := d.Peers[i].Rank; rank != None && rank > mostRank {
			return wrong("the rank of a peer", rank)
		}
	}
	return nil
}
