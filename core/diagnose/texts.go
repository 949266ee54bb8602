package diagnose

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"netmon/core/cluster"
	"netmon/core/units"
)

// numbers is evidence. What is not known is not in it.
type numbers map[string]float64

func (n numbers) add(name string, value float64) {
	if !math.IsNaN(value) && !math.IsInf(value, 0) {
		n[name] = value
	}
}

// Numbers as people read them.

func speed(bytesPerSecond float64) string {
	return units.SpeedText(uint64(units.BytesToBits(max(0, min(bytesPerSecond, 1e15)))))
}

func ms(seconds float64) string {
	return strconv.FormatFloat(seconds*1e3, 'g', 3, 64) + " ms"
}

func percent(ratio float64) string {
	percents := ratio * 100
	switch {
	case percents < 1e-4: // less than one of a million: what is left of one that views of before told of
		percents = 0
	case percents >= 99.5: // not 1e+02
		return strconv.FormatFloat(percents, 'f', 0, 64) + " %"
	}
	return strconv.FormatFloat(percents, 'g', 2, 64) + " %"
}

// device gives a device its name in a command.
func device(name string) string {
	if name == "" {
		return "DEVICE"
	}
	return name
}

// confident adds what speaks for a finding to a beginning, and bounds it: nothing is certain.
func confident(beginning float64, reasons ...bool) float64 {
	for _, r := range reasons {
		if r {
			beginning += 0.1
		}
	}
	return math.Round(min(beginning, 0.95)*100) / 100
}

const unsure = 0.5

func directionWords(direction string) string {
	switch direction {
	case Transmit:
		return "sends"
	case Receive:
		return "receives"
	}
	return "sends and receives"
}

// fault begins a suspect of a host's link.
func (g *graph) fault(class, severity string, c culprit) suspect {
	return suspect{
		class: class, severity: severity, host: c.host, peer: c.peer, direction: c.direction, interfaceName: g.interfaceOf(c.host),
	}
}

func (g *graph) slowLink(c culprit, loaded []*way, able func(*way) float64) suspect {
	x := g.fault(SlowLink, Warning, c)
	var rates, rtts, mins, before, others, othersRTT []float64
	x.ratio = math.NaN()
	strong, readings := true, 0
	for _, w := range c.bad {
		x.ends = append(x.ends, other(w, c.host))
		strong = strong && w.strong
		readings = max(readings, len(w.each(func(f *facts) float64 { return f.delivery })))
		x.ratio = lowest(x.ratio, w.ratio)
		rates, rtts, mins = append(rates, w.delivery), append(rtts, w.rtt), append(mins, w.rtt-w.queue)
		if usual, _ := w.baseline.usual(); !math.IsNaN(usual) {
			before = append(before, usual)
		}
	}
	for _, w := range loaded {
		if w.from != c.host && w.to != c.host {
			others = append(others, collect([]*way{w}, able)...)
			othersRTT = append(othersRTT, collect([]*way{w}, func(w *way) float64 { return w.rtt })...)
		}
	}
	x.delivery, x.rtt = median(rates), median(rtts)
	than, was, path := median(others), median(before), median(mins)
	e := numbers{}
	e.add("delivery_bytes_per_second", x.delivery)
	e.add("others_delivery_bytes_per_second", than)
	e.add("usual_delivery_bytes_per_second", was)
	e.add("rtt_seconds", x.rtt)
	e.add("rtt_min_seconds", path)
	e.add("others_rtt_seconds", median(othersRTT))
	e.add("ways", float64(len(c.bad)))
	x.evidence = e
	reference := highest(than, was)
	// One reading is enough beside evidence of another kind.
	told := readings >= strongReadings || x.ratio < clearlySlow || c.direction == Receive && g.pilesUp(c.host)
	if c.sure && strong && told && x.ratio < strongRatio {
		x.needs = strongHits
	}
	if x.delivery < 0.25*reference {
		x.severity = Critical
	}
	x.confidence = confident(0.6, x.delivery < slowRatio*than, x.delivery < slowRatio*was, x.delivery < 0.6*reference)
	compared := ""
	switch {
	case x.delivery < slowRatio*than:
		compared = ", the others carry " + speed(than)
	case x.delivery < slowRatio*was:
		compared = ", it carried " + speed(was) + " before"
	}
	dev := device(x.interfaceName)
	if !c.sure && c.peer != "" {
		x.confidence = min(x.confidence, unsure)
		x.text = fmt.Sprintf("slow link from %s to %s: TCP delivers %s%s, and packets wait %s before it; whether %s sends or %s receives slowly cannot be told",
			c.host, c.peer, speed(x.delivery), compared, ms(x.rtt-path), c.host, c.peer)
		x.advice = fmt.Sprintf("on %s and on %s run `ethtool %s` (speed, duplex) and `tc -s qdisc show dev %s`; a bandwidth test from each to a third host tells them apart",
			c.host, c.peer, dev, dev)
		return x
	}
	x.text = fmt.Sprintf("slow link of %s: what it %s goes at %s%s, and packets wait %s before it",
		c.host, directionWords(c.direction), speed(x.delivery), compared, ms(x.rtt-path))
	where := "the switch port and cable"
	if c.direction != Receive {
		where = fmt.Sprintf("`tc -s qdisc show dev %s`, the switch port and cable", dev)
	}
	x.advice = fmt.Sprintf("on %s run `ethtool %s` (speed, duplex), `ethtool -S %s`; look at %s, and at what else uses that link; else run the job without this host",
		c.host, dev, dev, where)
	return x
}

func (g *graph) longWay(c culprit, quickest, reference float64) suspect {
	x := g.fault(HighLatency, Warning, c)
	var rtts []float64
	probed := true
	for _, w := range c.bad {
		if !math.IsNaN(w.rtt) {
			rtts = append(rtts, w.rtt)
		}
		probed = probed && w.probed
	}
	x.floor, x.rtt, x.probed = quickest, median(rtts), probed
	e := numbers{}
	e.add("rtt_min_seconds", x.floor)
	e.add("others_rtt_min_seconds", reference)
	e.add("rtt_seconds", x.rtt)
	e.add("ways", float64(len(c.bad)))
	x.evidence = e
	x.confidence = confident(0.6, probed, len(c.bad) > 2, x.floor >= 2*latencyRatio*reference)
	if c.sure && probed {
		x.needs = strongHits
	}
	if !c.sure {
		x.confidence = min(x.confidence, unsure)
		compared := "the others"
		if len(g.names) == 2 {
			compared = "before"
		}
		x.text = fmt.Sprintf("high latency between %s and %s: at least %s a round trip, %s %s", c.host, c.peer, ms(x.floor), compared, ms(reference))
	} else {
		x.text = fmt.Sprintf("high latency of %s: at least %s a round trip to every other host, %s among the others", c.host, ms(x.floor), ms(reference))
	}
	target := c.peer
	if target == "" {
		target = "the other hosts"
	}
	x.advice = fmt.Sprintf("look at the path: `ip route get ADDRESS` on %s for the way to %s, a traceroute (a netmon query \"trace\"), tunnels and other zones or racks on the way", c.host, target)
	return x
}

func (g *graph) lossyLink(c lossCandidate) suspect {
	x := g.fault(LossyLink, Warning, c.culprit)
	segments, probes := c.in.segments, c.in.probes
	e := numbers{}
	e.add("retransmitted_ratio", segments.ratio())
	e.add("others_retransmitted_ratio", c.out.segments.ratio())
	if segments.tried > 0 {
		e.add("segments_retransmitted", math.Round(segments.failed))
		e.add("segments_sent", math.Round(segments.tried))
	}
	if probes.tried > 0 {
		e.add("probe_loss_ratio", probes.ratio())
		e.add("probes_lost", probes.failed)
		e.add("probes_sent", probes.tried)
		e.add("others_probe_loss_ratio", c.out.probes.ratio())
	}
	x.evidence = e
	if segments.ratio() >= criticalLoss || probes.ratio() >= criticalLoss && probes.failed >= lossSegments {
		x.severity = Critical
	}
	x.confidence = confident(0.6, segments.ratio() >= 2*lossRatio, probes.failed > 0 && probes.ratio() >= lossRatio, c.gain >= 4*lossEvidence)
	if c.sure && c.gain >= 4*lossEvidence {
		x.needs = strongHits
	}
	var what []string
	if segments.failed >= 1 && segments.ratio() >= lossRatio {
		what = append(what, fmt.Sprintf("%s of %.0f TCP segments were sent again (others %s)", percent(segments.ratio()), segments.tried,
			percentOrNone(c.out.segments.ratio())))
	}
	if probes.failed > 0 {
		what = append(what, fmt.Sprintf("%.0f of %.0f probes were lost", probes.failed, probes.tried))
	}
	said := strings.Join(what, ", ")
	dev := device(x.interfaceName)
	switch {
	case !c.sure && c.peer != "":
		x.confidence = min(x.confidence, unsure)
		x.text = fmt.Sprintf("lossy link from %s to %s: %s; which end loses cannot be told", c.host, c.peer, said)
		x.advice = fmt.Sprintf("on %s and on %s run `ethtool -S %s` and `ip -s link show dev %s` twice and compare errors and drops; look at cables and switch ports",
			c.host, c.peer, dev, dev)
	default:
		if !c.sure {
			x.confidence = min(x.confidence, unsure)
		}
		x.text = fmt.Sprintf("lossy link of %s: of what it %s, %s", c.host, directionWords(c.direction), said)
		if probes.failed > 0 && probes.ratio() >= deadProbeRatio {
			x.text = fmt.Sprintf("%s does not answer: %s", c.host, said)
		}
		x.advice = fmt.Sprintf("on %s run `ethtool -S %s` and `ip -s link show dev %s` twice and compare errors and drops; look at its cable, transceiver and switch port",
			c.host, dev, dev)
	}
	return x
}

func percentOrNone(ratio float64) string {
	if math.IsNaN(ratio) {
		return "not known"
	}
	return percent(ratio)
}

func (g *graph) slowHost(name string, w *waits, waited, usual, transfer float64, hosts int) suspect {
	x := suspect{class: SlowHost, severity: Warning, host: name, interfaceName: g.interfaceOf(name)}
	if real(w.rank.LastRatio) >= lastRatio {
		x.rank = w.rank.Rank
	}
	e := numbers{}
	e.add("last_ratio", min(1, w.last))
	e.add("waiting_seconds", w.own)
	e.add("others_waiting_seconds", waited)
	e.add("outside_ratio", w.outside)
	e.add("others_outside_ratio", usual)
	e.add("transfer_seconds", transfer)
	e.add("compared", float64(g.view.Skew.Compared))
	x.evidence = e
	x.confidence = confident(0.6, w.last >= 0.9, waited >= clearlyWaiting*transfer, hosts > 2)
	if w.last >= 0.9 && waited >= clearlyWaiting*transfer ||
		w.outside >= clearlyOutside*usual && w.last >= mostlyLast && w.own <= ownWaitingToOthers*waited ||
		g.noLink && w.clearly(waited) {
		x.needs = strongHits
	}
	who := name
	if x.rank != nil {
		who = fmt.Sprintf("%s (rank %d)", name, *x.rank)
	}
	x.text = fmt.Sprintf("slow host %s, not the network: it came last to %s of %d compared collectives, the others wait %s for it each time, and the transfer then takes %s",
		who, percent(min(1, w.last)), g.view.Skew.Compared, ms(waited), unknownOr(transfer, ms))
	x.advice = fmt.Sprintf("look at what %s does between collectives: `top`, GPU clocks and temperature (`nvidia-smi -q -d PERFORMANCE`), its data loader, an uneven batch; the links need no change", name)
	return x
}

func wayCount(n int) string {
	if n == 1 {
		return "1 way"
	}
	return strconv.Itoa(n) + " ways"
}

func unknownOr(value float64, text func(float64) string) string {
	if math.IsNaN(value) {
		return "an unknown time"
	}
	return text(value)
}

func (g *graph) idleHost(name string, share, usual float64) suspect {
	x := suspect{class: SlowHost, severity: Warning, host: name, interfaceName: g.interfaceOf(name), confidence: unsure}
	e := numbers{}
	e.add("collective_ratio", share)
	e.add("others_collective_ratio", usual)
	x.evidence = e
	x.text = fmt.Sprintf("slow host %s, probably not the network: it spends %s of its time in collectives, the others %s, as where they wait for it", name, percent(share), percent(usual))
	x.advice = fmt.Sprintf("look at what %s does between collectives: `top`, GPU clocks and temperature, its data loader, an uneven batch", name)
	return x
}

func rankList(ranks []*cluster.Rank) string {
	const most = 8
	var names []string
	for _, r := range ranks {
		if r.Rank != nil && len(names) < most {
			names = append(names, strconv.FormatInt(*r.Rank, 10))
		}
	}
	word := "rank "
	if len(ranks) > 1 {
		word = "ranks "
	}
	if len(names) == 0 {
		return "a process"
	}
	text := word + strings.Join(names, ", ")
	if len(ranks) > len(names) {
		text += fmt.Sprintf(" and %d more", len(ranks)-len(names))
	}
	return text
}

// stoodStill is of ranks that say nothing new.
func (g *graph) stoodStill(name string, ranks []*cluster.Rank, longest float64, pending, telling int) suspect {
	x := suspect{class: StalledRank, severity: Critical, host: name, rank: ranks[0].Rank}
	if pending > 0 {
		x.needs = strongHits // that it is late has lasted long enough
	}
	age := 0.0
	for _, r := range ranks {
		age = max(age, orZero(positive(r.AgeSeconds)))
	}
	var probes losses
	for _, w := range g.of[name] {
		if w.to == name {
			probes.addProbes(w)
		}
	}
	e := numbers{}
	e.add("age_seconds", age)
	if telling > 0 {
		e.add("others_pending_seconds", longest)
		e.add("ranks_waiting", float64(pending))
	}
	e.add("probe_loss_ratio", probes.probes.ratio())
	x.evidence = e
	x.confidence = confident(0.6, pending > 0, age >= 2*pendingSeconds, probes.probes.ratio() == 0)
	x.text = fmt.Sprintf("%s of %s stands still: nothing new for %s", rankList(ranks), name, seconds(age))
	if pending > 0 {
		x.text += fmt.Sprintf(", and %d others have waited up to %s for a collective", pending, seconds(longest))
	}
	switch ratio := probes.probes.ratio(); {
	case ratio >= deadProbeRatio:
		x.text += "; the host does not answer probes either: it, or its link, is down"
		x.advice = fmt.Sprintf("look whether %s is up and reachable (`ping %s` from another host, its console, its switch port), then restart the job without it", name, name)
		return x
	case ratio < loadedProbeLoss:
		x.text += "; the host answers probes: it is the process, not the network"
	}
	x.advice = fmt.Sprintf("on %s look at the process: its state (`ps -o pid,stat,wchan:32,cmd -p PID`; T is stopped, D waits for a device), `py-spy dump --pid PID`, `dmesg` for the OOM killer", name)
	return x
}

// keptAway is of ranks that are alive and not in the collective that all others are in.
func (g *graph) keptAway(name string, ranks []*cluster.Rank, shortest float64, pending, live int) suspect {
	x := suspect{class: StalledRank, severity: Warning, host: name, rank: ranks[0].Rank}
	e := numbers{}
	e.add("others_pending_seconds", shortest)
	e.add("ranks_waiting", float64(pending))
	x.evidence = e
	x.confidence = confident(0.6, pending == live-len(ranks), shortest >= 3*pendingSeconds)
	x.text = fmt.Sprintf("%s of %s keeps the others waiting: %d ranks have been in a collective for %s or longer, it is in none", rankList(ranks), name, pending, seconds(shortest))
	if phase := ranks[0].Phase; phase != nil {
		x.text += fmt.Sprintf(", but in the phase %q", *phase)
	}
	x.advice = fmt.Sprintf("on %s look at what the process does: `py-spy dump --pid PID`; a checkpoint, an evaluation, a slow data loader or an error that the others do not share; the network is not what it waits for", name)
	return x
}

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 1, 64) + " s" }

func (g *graph) wrongInterface(h *host) suspect {
	x := suspect{class: WrongInterface, severity: Warning, host: h.name, interfaceName: g.interfaceOf(h.name), confidence: 0.8}
	e := numbers{}
	n := h.node
	e.add("receive_bytes_per_second", real(n.ReceiveBytesPerSecond))
	e.add("transmit_bytes_per_second", real(n.TransmitBytesPerSecond))
	e.add("capacity_bits_per_second", real(n.CapacityBitsPerSecond))
	e.add("nodes", float64(len(g.names)))
	x.evidence = e
	carried := "an interface"
	if x.interfaceName != "" {
		carried = x.interfaceName
	}
	x.text = fmt.Sprintf("wrong interface on %s: the job's traffic goes by %s although another one seems meant for it", h.name, carried)
	x.advice = fmt.Sprintf("set GLOO_SOCKET_IFNAME (one name) and NCCL_SOCKET_IFNAME (=name for exactly that one) on %s to the interface that leads to the other hosts; `transport.advice` of a sample taken there names it", h.name)
	return x
}

func (e *summary) clean(hosts int) suspect {
	x := suspect{class: NetworkClean, severity: Info}
	n := numbers{}
	n.add("hosts", float64(hosts))
	n.add("ways", float64(e.ways))
	n.add("segments_sent", math.Round(e.segments))
	n.add("retransmitted_ratio", e.lossRatio)
	if e.probes > 0 {
		n.add("probes_sent", e.probes)
		n.add("probe_loss_ratio", e.probeRatio)
	}
	n.add("rtt_min_seconds", e.rtt)
	n.add("longest_rtt_min_seconds", e.longest)
	n.add("delivery_bytes_per_second", e.usual)
	n.add("slowest_delivery_bytes_per_second", e.slowest)
	x.evidence = n
	x.confidence = confident(0.6, e.probes > 0, e.segments >= 10*cleanSegments, !math.IsNaN(e.usual))
	x.text = fmt.Sprintf("network clean: on %s between %d hosts %s of %.0f TCP segments were sent again, the median of the lowest round trips is %s, the longest %s",
		wayCount(e.ways), hosts, percent(e.lossRatio), e.segments, unknownOr(e.rtt, ms), unknownOr(e.longest, ms))
	if e.probes > 0 {
		x.text += fmt.Sprintf(", %.0f of %.0f probes were lost", e.lost, e.probes)
	}
	x.text += "; no link stands out"
	x.advice = "if the job is slow, look at computing, data loading and waiting (collective_ratio, phases), not at the network"
	return x
}
