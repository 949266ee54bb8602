package transport

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"netmon/core/job"
	"netmon/core/units"
)

// enoughMemlock is the limit of locked memory below which it is named as a cause: every connection of NCCL registers buffers of 4 MiB
// a channel (NCCL_BUFFSIZE). NCCL's and UCX's own advice is no limit at all.
const enoughMemlock = 1 << 30

// idle is why no RDMA port carries anything, "" where one does or it is not known, and what would change it.
func (j *judge) idle() (reason, advice string) {
	switch {
	case j.NoPorts != "" || j.rdmaCarries:
		return "", ""
	case j.NoDevices != "":
		return j.NoDevices, ""
	case len(j.Ports) == 0:
		return "no RDMA device", ""
	}
	active := j.active()
	if len(active) == 0 {
		var down []string
		for i := range j.Ports {
			p := &j.Ports[i]
			down = append(down, fmt.Sprintf("%s is %s", p.name(), or(p.State, "in an unknown state")))
		}
		return fmt.Sprintf("no port is active: %s", list(down)), "look at the cables, the switch and ibstat"
	}
	var reasons, advices []string
	found := func(reason, advice string) {
		if reason != "" {
			reasons, advices = append(reasons, reason), append(advices, advice)
		}
	}
	found(j.noNode())
	found(j.memlock())
	found(j.disabled())
	found(j.otherNet())
	found(j.filtered(active))
	found(j.otherProvider(active))
	found(j.otherDevices(active))
	if len(reasons) == 0 {
		counting := slices.ContainsFunc(active, func(p *Port) bool { return p.Counted })
		switch {
		case !counting:
			return "the driver does not count what active ports carry (" + list(names(active)) + "): they need not be idle", ""
		case j.tcp+j.loopback == 0 && j.NoConnections == "":
			return "active (" + list(names(active)) + "), but the job's connections carry nothing either", ""
		}
		return "active (" + list(names(active)) + "), and nothing is seen that keeps the job from using it: gloo does not use RDMA; " +
				"NCCL may not have found its net plugin",
			"NCCL_DEBUG=INFO shows at the start what NCCL chose (NET/IB or NET/Socket)"
	}
	return join(reasons), join(advices)
}

func or(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}

func names(ports []*Port) (names []string) {
	for _, p := range ports {
		names = append(names, p.name())
	}
	return names
}

// noNode: without a device node a process cannot open the device, though sysfs shows it.
func (j *judge) noNode() (reason, advice string) {
	if j.NoDeviceNodes != "" || slices.ContainsFunc(j.DeviceNodes, func(name string) bool { return strings.HasPrefix(name, "uverbs") }) {
		return "", ""
	}
	return "there is no device node /dev/infiniband/uverbs*, without which no device can be opened: as in a container that was not given them",
		"give the container the device nodes (docker run --device=/dev/infiniband, in Kubernetes the RDMA device plugin)"
}

func (j *judge) memlock() (reason, advice string) {
	if m := j.Memlock; !m.Known || m.Exempt || m.Bytes >= enoughMemlock {
		return "", ""
	}
	return fmt.Sprintf("RLIMIT_MEMLOCK is %d bytes (%s) and this process has no CAP_IPC_LOCK: RDMA libraries lock all memory that they send from and receive into",
			j.Memlock.Bytes, units.AmountText(j.Memlock.Bytes)),
		"raise the limit to unlimited (ulimit -l unlimited, docker run --ulimit memlock=-1)"
}

func (j *judge) disabled() (reason, advice string) {
	value := j.Settings[job.NCCLIBDisable]
	// NCCL reads it with strtoll, base 0.
	if number, err := strconv.ParseInt(value, 0, 64); err != nil || number == 0 {
		return "", ""
	}
	return "NCCL_IB_DISABLE=" + value + " tells NCCL not to use it", "unset NCCL_IB_DISABLE"
}

func (j *judge) otherNet() (reason, advice string) {
	value := j.Settings[job.NCCLNet]
	if !strings.EqualFold(value, "Socket") {
		return "", ""
	}
	return "NCCL_NET=" + value + " makes NCCL use sockets", "unset NCCL_NET"
}

// filtered: NCCL_IB_HCA leaves no active port over.
func (j *judge) filtered(active []*Port) (reason, advice string) {
	value, set := j.Settings[job.NCCLIBHCA]
	if !set {
		return "", ""
	}
	filter := ParseFilter(value)
	if slices.ContainsFunc(active, func(p *Port) bool { return filter.Accepts(p.Device, p.Port) }) {
		return "", ""
	}
	return fmt.Sprintf("NCCL_IB_HCA=%s leaves no active port over: %s", value, list(names(active))),
		"unset NCCL_IB_HCA, or name these ports, as NCCL_IB_HCA==" + active[0].name()
}

// rdmaProviders are libfabric's providers that use hardware for RDMA (fi_provider(7)).
func rdmaProviders() []string {
	return []string{"efa", "verbs", "psm", "psm2", "psm3", "opx", "cxi", "gni", "bgq", "ucx", "mlx", "usnic"}
}

// otherProvider: FI_PROVIDER is a list of providers, layered ones joined by ";", that a leading ^ excludes (fabric(7)).
func (j *judge) otherProvider(active []*Port) (reason, advice string) {
	value, set := j.Settings[job.LibfabricProviders]
	if !set {
		return "", ""
	}
	text, exclude := strings.CutPrefix(value, "^")
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' })
	wanted := rdmaProviders()
	if exclude {
		wanted = []string{"verbs"}
		if slices.ContainsFunc(active, func(p *Port) bool { return p.LinkLayer == "Unspecified" }) {
			wanted = []string{"efa"}
		}
	}
	names := slices.ContainsFunc(words, func(w string) bool { return slices.Contains(wanted, strings.ToLower(w)) })
	if names != exclude {
		return "", ""
	}
	return "FI_PROVIDER=" + value + " leaves libfabric, and NCCL's plugin for it, no provider that uses RDMA", "unset FI_PROVIDER"
}

// otherDevices: UCX_NET_DEVICES is a list of devices with ports and of interfaces, or "all".
func (j *judge) otherDevices(active []*Port) (reason, advice string) {
	value, set := j.Settings[job.UCXNetDevices]
	if !set || strings.HasPrefix(value, "^") {
		return "", ""
	}
	words := strings.Split(value, ",")
	if slices.Contains(words, "all") ||
		slices.ContainsFunc(active, func(p *Port) bool { return slices.Contains(words, p.name()) || slices.Contains(words, p.Device) }) {
		return "", ""
	}
	return fmt.Sprintf("UCX_NET_DEVICES=%s names no active port: %s", value, list(names(active))),
		"unset UCX_NET_DEVICES, or name these ports, as UCX_NET_DEVICES=" + active[0].name()
}
