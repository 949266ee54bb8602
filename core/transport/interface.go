package transport

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"netmon/core/job"
	"netmon/core/link"
	"netmon/core/units"
)

// wrong says what is wrong with the interface that carries a plane, or with the variables that choose one, and what would change it.
func (j *judge) wrong(plane Plane, carrier string) (wrong, advice string) {
	if j.NoLinks != "" {
		return "", ""
	}
	wrongs := j.unmatched()
	better := j.preferred("")
	var advices []string
	switch plane {
	case TCP:
		if say, other := j.wrongCarrier(carrier); say != "" {
			wrongs, better = append(wrongs, say), other
		}
	case Loopback:
		if say := j.wrongLoopback(); say != "" {
			wrongs = append(wrongs, say)
			advices = append(advices, "see that this host's own name does not resolve to a loopback address (/etc/hosts), which is where gloo would listen")
		}
	}
	if len(wrongs) == 0 {
		return "", ""
	}
	if better != nil {
		advices = append([]string{j.choose(better.Name)}, advices...)
	}
	return join(wrongs), join(advices)
}

// choose are the settings that make the libraries use an interface.
func (j *judge) choose(name string) string {
	text := fmt.Sprintf("before the ranks start, set NCCL_SOCKET_IFNAME==%[1]s, GLOO_SOCKET_IFNAME=%[1]s and TP_SOCKET_IFNAME=%[1]s", name)
	var now []string
	for _, variable := range []string{job.NCCLSocketIfname, job.GlooSocketIfname, job.TPSocketIfname} {
		if value, set := j.Settings[variable]; set {
			now = append(now, variable+"="+value)
		}
	}
	if len(now) > 0 {
		text += " (now " + strings.Join(now, ", ") + ")"
	}
	return text
}

// usable tells whether an interface leads from this host to others by itself: it is up with an address that holds beyond its link,
// and is no tunnel, nor a bridge without a device of the machine.
func (j *judge) usable(l *Link) bool {
	if !l.Up || !hasAddress(l) {
		return false
	}
	switch l.Kind {
	case link.Loopback, link.Tunnel:
		return false
	case link.Bridge:
		return j.hasUplink(l)
	case link.Bond, link.VLAN:
		return true
	default:
		return l.Counted
	}
}

func hasAddress(l *Link) bool {
	return slices.ContainsFunc(l.Addresses, func(cidr string) bool {
		prefix, err := netip.ParsePrefix(cidr)
		return err == nil && !prefix.Addr().IsLinkLocalUnicast() && !prefix.Addr().IsLoopback()
	})
}

// hasUplink tells whether a device of the machine, or a bond or VLAN, is member of a bridge, so that others are reached through it.
func (j *judge) hasUplink(bridge *Link) bool {
	return slices.ContainsFunc(j.Links, func(l Link) bool {
		return l.Master == bridge.Name && (l.Hardware || l.Kind == link.Bond || l.Kind == link.VLAN)
	})
}

// preferred is the usable interface that traffic is expected on, but for one: the primary, else the fastest; nil for none.
func (j *judge) preferred(but string) *Link {
	for i := range j.Links {
		if l := &j.Links[i]; l.Primary && l.Name != but && j.usable(l) {
			return l
		}
	}
	return j.fastest(but)
}

func (j *judge) fastest(but string) (best *Link) {
	for i := range j.Links {
		if l := &j.Links[i]; l.Name != but && j.usable(l) && (best == nil || l.LinkSpeedBits > best.LinkSpeedBits) {
			best = l
		}
	}
	return best
}

// wrongCarrier says why an interface should not carry the job's TCP traffic, and which should; "" where there is no other, or nothing
// seems wrong.
func (j *judge) wrongCarrier(carrier string) (wrong string, better *Link) {
	l, better := j.link(carrier), j.preferred(carrier)
	if l == nil || better == nil {
		return "", nil
	}
	switch {
	case l.Kind == link.Bridge && !j.hasUplink(l):
		return fmt.Sprintf("%s is a bridge between containers of this host; %s leads to others", describe(l), describe(better)), better
	case l.Kind == link.Veth && !l.Counted:
		return fmt.Sprintf("%s leads to a container of this host; %s leads to others", describe(l), describe(better)), better
	case l.Kind == link.Tunnel:
		return fmt.Sprintf("%s is a tunnel (VPN), whose packets are wrapped and leave by another interface; %s needs none",
			describe(l), describe(better)), better
	}
	if better = j.fastest(carrier); l.LinkSpeedBits > 0 && better.LinkSpeedBits > l.LinkSpeedBits {
		return fmt.Sprintf("%s is slower than %s, which is up as well: it looks like the management network", describe(l), describe(better)), better
	}
	return "", nil
}

func describe(l *Link) string {
	if l.LinkSpeedBits == 0 {
		return l.Name
	}
	return fmt.Sprintf("%s (%s)", l.Name, units.SpeedText(l.LinkSpeedBits))
}

// wrongLoopback: connections stay inside this node, though the job spans others. Ranks that share a node may well talk to each other
// only, but then each has a connection to the master too.
func (j *judge) wrongLoopback() string {
	if !j.MasterAddress.IsValid() || j.isOwn(j.MasterAddress) {
		return ""
	}
	alone := j.LocalWorldSize == nil || *j.LocalWorldSize <= 1
	switch {
	case j.tcp == 0:
		return fmt.Sprintf("the master %s is another host, and no connection of this process carried anything to any other host", j.Master)
	case alone && j.tcp < j.loopback/100:
		return fmt.Sprintf("the master %s is another host and this is the only rank here, yet loopback carried %s and connections to other hosts %s",
			j.Master, units.AmountText(j.loopback), units.AmountText(j.tcp))
	}
	return ""
}

func (j *judge) isOwn(address netip.Addr) bool {
	return address.IsLoopback() || slices.ContainsFunc(j.Links, func(l Link) bool { return l.HasAddress(address.WithZone("")) })
}

// unmatched are the variables that choose interfaces by name and match none.
func (j *judge) unmatched() (wrongs []string) {
	var here []string
	for i := range j.Links {
		if l := &j.Links[i]; len(l.Addresses) > 0 {
			here = append(here, l.Name)
		}
	}
	if len(here) == 0 {
		return nil
	}
	if value, set := j.Settings[job.NCCLSocketIfname]; set {
		filter := ParseFilter(value)
		if !slices.ContainsFunc(here, func(name string) bool { return filter.Accepts(name, anyPort) }) {
			wrongs = append(wrongs, fmt.Sprintf("NCCL_SOCKET_IFNAME=%s matches no interface with an address here: %s", value, list(here)))
		}
	}
	if value, set := j.Settings[job.GlooSocketIfname]; set {
		for word := range strings.SplitSeq(value, ",") { // torch's own list; each is a whole name
			if !slices.Contains(here, word) {
				wrongs = append(wrongs, fmt.Sprintf("GLOO_SOCKET_IFNAME=%s: %q is no interface with an address here (%s); gloo takes whole names", value, word, list(here)))
				break
			}
		}
	}
	if value, set := j.Settings[job.TPSocketIfname]; set && !slices.Contains(here, value) {
		wrongs = append(wrongs, fmt.Sprintf("TP_SOCKET_IFNAME=%s is no interface with an address here: %s", value, list(here)))
	}
	return wrongs
}
