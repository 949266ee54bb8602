package monitor

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"netmon/core/job"
	"netmon/core/peer"
	"netmon/core/reach"
	"netmon/core/sample"
	"netmon/core/tcpinfo"
)

// peerRows makes the rows of samples of the readings. Not safe for concurrent use.
type peerRows struct {
	ranks   map[netip.Addr][]int64
	version uint64 // of ranks
	job     *jobState
	results *reach.Results // that names were looked up in, nil where there is no name

	texts   map[*peer.Peer]*peerTexts
	order   []*peerTexts
	shown   []*sample.PeerTexts // of order
	numbers []sample.PeerNumbers
	passing []sample.Peer // room for those of a sample on demand

	lacks   []peerLack // of the last sample's rows
	lacking []missing
}

// peerTexts are the texts of a peer, and what they were made of.
type peerTexts struct {
	*sample.PeerTexts
	counted       bool // in the history's memory
	interfaceName string
	version       uint64              // of the ranks
	kept          *sample.PeerNumbers // of the newest sample of the loop
	sample        uint64              // number of the last sample that it was in
}

// peerLack says what a row lacks, and why.
type peerLack uint16

const (
	noRank peerLack = 1 << iota
	manyRanks
	noInterface
	noConnection // at the moment
	noRTT
	noDelivery
	noBusyTime
	noReadings    // to make rates of
	noChildRates  // as children were read once only
	oldBytes      // the kernel does not count them
	oldSegments   // so does not
	oldDuplicates // so does not
	oldUnsent
	oldDelivery
	oldLimits
	neverUsed
)

func (t *peerRows) fill(d *document, p *peersPart, now *occasion) (bytes int) {
	t.rank(p.state())
	view := p.current
	n := len(view.Rows)
	t.order, t.shown = slices.Grow(t.order[:0], n)[:n], t.shown[:0]
	t.numbers = slices.Grow(t.numbers[:0], n)[:n]
	changed := len(t.lacks) != n
	t.lacks = slices.Grow(t.lacks[:min(n, len(t.lacks))], n)[:n]
	if t.texts == nil {
		t.texts = make(map[*peer.Peer]*peerTexts)
	}
	for i := range view.Rows {
		row := &view.Rows[i]
		texts, isNew := t.textsOf(row)
		texts.sample = now.reading
		t.order[i] = texts
		t.shown = append(t.shown, texts.PeerTexts)
		lack := t.measure(i, view, p.base, row, now)
		lack |= texts.lack()
		changed = changed || isNew || lack != t.lacks[i]
		t.lacks[i] = lack
	}
	if len(t.texts) > n {
		maps.DeleteFunc(t.texts, func(_ *peer.Peer, texts *peerTexts) bool { return texts.sample != now.reading })
		changed = true
	}
	if changed {
		t.lacking = t.explain()
	}
	d.lacking = append(d.lacking, t.lacking...)
	if d.passing {
		t.passing = slices.Grow(t.passing[:0], n)[:n]
		for i := range t.passing {
			t.passing[i].Set(t.shown[i], &t.numbers[i], now.monotonic)
		}
		if d.Peers = t.passing; d.Peers == nil {
			d.Peers = []sample.Peer{}
		}
		return 0
	}
	kept := make([]*sample.PeerNumbers, n)
	for i, texts := range t.order {
		bytes += sample.KeptPeerBytes
		if texts.kept == nil || *texts.kept != t.numbers[i] {
			// Each by itself: a row that does not change any more keeps no others in memory.
			numbers := t.numbers[i]
			texts.kept = &numbers
			bytes += sample.KeptPeerNumbersBytes
		}
		kept[i] = texts.kept
		if !texts.counted {
			texts.counted = true
			bytes += texts.Bytes()
		}
	}
	d.KeepPeers(slices.Clone(t.shown), kept, now.monotonic)
	return bytes
}

// rank finds out again who is where, if that may have changed.
func (t *peerRows) rank(j *jobState, results *reach.Results) {
	if t.job == j && (t.results == nil || t.results == results) {
		return
	}
	t.job, t.results = j, nil
	ranks := job.Ranks(j.peers, j.document.Rank, master(j), func(name string) (netip.Addr, bool) {
		t.results = results
		for _, r := range results.Targets {
			if target, wrong := peerTarget(name); wrong == "" && r.Target == target.Text && r.Address.IsValid() {
				return r.Address, true
			}
		}
		return netip.Addr{}, false
	})
	if t.ranks == nil || !maps.EqualFunc(ranks, t.ranks, slices.Equal) {
		t.ranks = ranks
		t.version++
	}
}

// textsOf are the texts of a row, which samples share while they do not change.
func (t *peerRows) textsOf(row *peer.Row) (texts *peerTexts, isNew bool) {
	texts = t.texts[row.Peer]
	if texts != nil && texts.interfaceName == row.Interface && texts.version == t.version {
		return texts, false
	}
	ranks := t.ranks[row.Peer.Address.WithZone("")]
	if row.Peer.Ray {
		ranks = nil // a daemon is no rank
	}
	if texts != nil && texts.interfaceName == row.Interface && slices.Equal(ranks, texts.Ranks) {
		texts.version = t.version
		return texts, false
	}
	made := &sample.PeerTexts{
		Address: row.Peer.Address.String(), Ranks: append([]int64{}, ranks...), Process: sample.OwnPeer, Interface: known(row.Interface),
	}
	if row.Peer.Ray {
		made.Process = sample.RayPeer
	}
	if len(ranks) == 1 {
		made.Rank = &made.Ranks[0]
	}
	before := texts
	texts = &peerTexts{PeerTexts: made, interfaceName: row.Interface, version: t.version}
	if before != nil {
		texts.kept = before.kept
	}
	t.texts[row.Peer] = texts
	return texts, true
}

func (t *peerTexts) lack() (lack peerLack) {
	switch len(t.Ranks) {
	case 0:
		lack |= noRank
	case 1:
	default:
		lack |= manyRanks
	}
	if t.interfaceName == "" {
		lack |= noInterface
	}
	return lack
}

// measure makes the numbers of a row.
func (t *peerRows) measure(place int, view, base *peer.View, row *peer.Row, now *occasion) (lack peerLack) {
	const unknown = sample.UnknownNumber
	kernel, most := &view.Known, &row.Most
	n := sample.PeerNumbers{
		Connections: uint32(row.Connections), Children: uint32(row.Children), Sent: row.Totals.Sent, Received: row.Totals.Received,
		Segments: row.Totals.Segments, Retransmitted: row.Totals.Retransmits, Reported: row.Totals.Reported, Delivery: unknown,
		Unsent: row.Unsent, SentRate: sample.UnknownPortion, ReceivedRate: sample.UnknownPortion, RTT: sample.UnknownMicros,
		RTTMin: sample.UnknownMicros, RTTVariation: sample.UnknownMicros, ReceiveWindow: sample.UnknownPortion,
		SendBuffer: sample.UnknownPortion, LastUsed: row.LastUsed,
	}
	if row.LastUsed == 0 {
		n.LastUsed = sample.UnknownTime
		lack |= neverUsed
	}
	connected := row.Connections+row.Children > 0
	if !connected {
		lack |= noConnection
	}
	if most.RTT != 0 {
		n.RTT, n.RTTVariation = most.RTT, most.RTTVariation
	} else if connected {
		lack |= noRTT
	}
	if row.MinRTT != tcpinfo.NoRTT {
		n.RTTMin = row.MinRTT
	} else if connected && kernel.HasUnsent() {
		lack |= noRTT
	}
	switch {
	case !kernel.HasDelivery():
		lack |= oldDelivery
	case most.DeliveryRate != 0:
		n.Delivery, n.AppLimited = most.DeliveryRate, most.AppLimited
	case connected:
		lack |= noDelivery
	}
	if !kernel.HasBytes() {
		n.Sent, n.Received = unknown, unknown
		lack |= oldBytes
	}
	if !kernel.HasSegments() {
		n.Segments = unknown
		lack |= oldSegments
	}
	if !kernel.HasSent() {
		n.Reported = unknown
		lack |= oldDuplicates
	}
	if !kernel.HasUnsent() {
		n.Unsent = unknown
		lack |= oldUnsent
	}
	if base == nil || base.At >= view.At {
		if now.base != nil {
			lack |= noReadings
		}
		t.numbers[place] = n
		return lack
	}
	d, rate := view.Since(base, row)
	switch {
	case !kernel.HasBytes():
	case rate.Known:
		n.SentRate, n.ReceivedRate = rate.Sent, rate.Received
	default:
		lack |= noChildRates
	}
	switch {
	case !kernel.HasLimits():
		lack |= oldLimits
	case d.Busy > 0:
		n.ReceiveWindow = min(1, float64(d.ReceiveWindow)/float64(d.Busy))
		n.SendBuffer = min(1, float64(d.SendBuffer)/float64(d.Busy))
	default:
		lack |= noBusyTime
	}
	t.numbers[place] = n
	return lack
}

// peerReasons says what is null for which lack.
func peerReasons() []struct {
	lack           peerLack
	fields, reason string
} {
	const (
		rates  = "sent_bytes_per_second received_bytes_per_second"
		limits = "receive_window_limited_ratio send_buffer_limited_ratio"
		rtts   = "rtt_seconds rtt_min_seconds rtt_variation_seconds"
		flow   = "delivery_bytes_per_second delivery_app_limited"
	)
	return []struct {
		lack           peerLack
		fields, reason string
	}{
		{noRank, "rank", "no rank of the job is known there"},
		{manyRanks, "rank", "several ranks are there, see ranks"},
		{noInterface, "interface", "not looked up yet, or the kernel knows no route"},
		{noConnection, rtts + " " + flow, "no connection at the moment"},
		{noRTT, rtts, "the kernel has measured none yet"},
		{noDelivery, flow, "the kernel has measured none yet"},
		{oldDelivery, flow, "not counted by kernels before Linux 4.9"},
		{oldBytes, "sent_bytes_total received_bytes_total " + rates, "not counted by kernels before Linux 4.1"},
		{oldSegments, "segments_sent_total", "not counted by kernels before Linux 4.2"},
		{oldDuplicates, "duplicates_reported_total", "not counted by kernels before Linux 4.19"},
		{oldUnsent, "unsent_bytes rtt_min_seconds", "not told by kernels before Linux 4.6"},
		{noReadings, rates + " " + limits, "sockets were read once only since the window began"},
		{noChildRates, rates, "the sockets of other processes were not read twice in a row yet"},
		{oldLimits, limits, "not counted by kernels before Linux 4.10"},
		{noBusyTime, limits, "there was nothing to send in the window"},
		{neverUsed, "idle_seconds", "no connection was read while it was open"},
	}
}

// explain says why fields of the section are null, naming the addresses.
func (t *peerRows) explain() (lacking []missing) {
	reasons := make(map[string]*named)
	var fields []string
	for _, r := range peerReasons() {
		for i, lack := range t.lacks {
			if lack&r.lack == 0 {
				continue
			}
			for field := range strings.FieldsSeq(r.fields) {
				if reasons[field] == nil {
					reasons[field] = &named{}
					fields = append(fields, field)
				}
				reasons[field].add(r.reason, t.shown[i].Address)
			}
		}
	}
	for _, field := range fields {
		lacking = append(lacking, missing{"peers." + field, reasons[field].String()})
	}
	return lacking
}
