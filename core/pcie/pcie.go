// Package pcie reads the links of network devices and GPUs to their machine: what they run at, and what they could.
//
// Source: /sys/bus/pci/devices (Documentation/ABI/testing/sysfs-bus-pci; drivers/pci/pci-sysfs.c of Linux 6.12: current_link_speed
// and the like, since Linux 4.13). Needs no privilege. The devices are all that the mounted sysfs shows, those of the host in most
// containers; names of network interfaces only those of the network namespace that sysfs was mounted in. Reading asks the device,
// so it may wait; a device that is powered down is not asked, which would wake it.
package pcie

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"netmon/core/kernelfs"
)

// Path is the folder of the devices, below the root.
const Path = "sys/bus/pci/devices"

// Kinds of devices.
const (
	Network = "network"
	GPU     = "gpu"
)

// MostDevices bounds how many are told.
const MostDevices = 256

// Device is a device with a PCI Express link.
type Device struct {
	Address string // 0000:3b:00.0
	Kind    string
	Names   []string // of the network interfaces and RDMA devices behind it
	Current Link
	Maximum Link // that the device can have; the slot may have less
	Asleep  bool // powered down: it was not asked, and nothing is known of its links
}

// Link is how fast a link runs. 0: not known.
type Link struct {
	TransfersPerSecond float64 // on each lane, in each direction
	Lanes              int
}

// CapacityBits is what a link carries in one direction, less the line code: bits per second, 0 where that is not known. Packet
// headers and flow control take some 5 to 20 % more.
//
// Source: PCI Express Base Specification; drivers/pci/pci.h, PCIE_SPEED2MBS_ENC: 8 bits in 10 up to 5 GT/s, 128 in 130 up to
// 32 GT/s, all from 64 GT/s on.
func (l Link) CapacityBits() uint64 {
	code := 1.0
	switch {
	case l.TransfersPerSecond < 8e9:
		code = 8.0 / 10
	case l.TransfersPerSecond < 64e9:
		code = 128.0 / 130
	}
	return uint64(l.TransfersPerSecond * float64(l.Lanes) * code)
}

// Limit says whether a link is less than the device can use.
type Limit int

// Limits of a link.
const (
	NotKnown Limit = iota
	Unlimited
	Limited
	// Resting: slower than the device can, and it is one of those that slow their link down while they have nothing to do, so it
	// cannot be told apart from one that is limited.
	Resting
)

// Limit compares current and maximum link. Fewer lanes limit every device: none gives lanes up while it rests. A lower speed limits
// a network device; GPUs run at 2.5 GT/s while they are idle.
func (d *Device) Limit() Limit {
	c, m := d.Current, d.Maximum
	switch {
	case c.Lanes == 0 || m.Lanes == 0:
		return NotKnown
	case c.Lanes < m.Lanes:
		return Limited
	case c.TransfersPerSecond == 0 || m.TransfersPerSecond == 0:
		return NotKnown
	case c.TransfersPerSecond >= m.TransfersPerSecond:
		return Unlimited
	case d.Kind == GPU:
		return Resting
	default:
		return Limited
	}
}

// Read reads the links of all network devices and GPUs, in the order of their addresses. Devices without PCI Express are left out.
//
// Errors: os.ErrNotExist where there is no PCI, errors.ErrUnsupported, and what else listing the folder says.
func Read(fs kernelfs.FS) (devices []Device, err error) {
	addresses, err := fs.List(Path)
	if err != nil {
		return nil, err
	}
	devices = []Device{}
	r := reader{fs: fs}
	for _, address := range addresses {
		folder := Path + "/" + address
		kind := ParseClass(r.read(folder + "/class"))
		if kind == "" || !r.isExpress(folder) {
			continue
		}
		if len(devices) == MostDevices {
			break
		}
		d := Device{Address: strings.ToValidUTF8(address, "?"), Kind: kind, Names: r.names(folder)}
		if status := string(bytes.TrimSpace(r.read(folder + "/power/runtime_status"))); status == "suspended" || status == "suspending" {
			d.Asleep = true
		} else {
			d.Current = Link{ParseSpeed(r.read(folder + "/current_link_speed")), ParseLanes(r.read(folder + "/current_link_width"))}
			d.Maximum = Link{ParseSpeed(r.read(folder + "/max_link_speed")), ParseLanes(r.read(folder + "/max_link_width"))}
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// Absent tells whether an error of Read means that there is no PCI here, rather than that it could not be read.
func Absent(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, errors.ErrUnsupported)
}

type reader struct {
	fs     kernelfs.FS
	buffer []byte
}

// read is a file's content, nothing where it cannot be read.
func (r *reader) read(path string) []byte {
	text, err := r.fs.ReadAttribute(path, r.buffer)
	r.buffer = text
	if err != nil {
		return nil
	}
	return text
}

// isExpress tells whether a device has the files of PCI Express.
func (r *reader) isExpress(folder string) bool {
	_, err := r.fs.Stat(folder + "/current_link_speed")
	return err == nil
}

func (r *reader) names(folder string) []string {
	names := []string{}
	add := func(folder string) {
		found, _ := r.fs.List(folder)
		for _, name := range found {
			names = append(names, strings.ToValidUTF8(name, "?"))
		}
	}
	add(folder + "/net")
	add(folder + "/infiniband")
	below, _ := r.fs.List(folder)
	for _, name := range below {
		if strings.HasPrefix(name, "virtio") {
			add(folder + "/" + name + "/net")
		}
	}
	const most = 32
	return names[:min(len(names), most)]
}

// ParseClass is the kind of a device by its class code, "" for any other.
//
// Source: include/linux/pci_ids.h: 0x02xxxx network controllers, InfiniBand's among them; 0x0300xx VGA, 0x0302xx 3D and 0x0380xx
// other display controllers, 0x1200xx processing accelerators.
func ParseClass(text []byte) string {
	code, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 0, 32)
	switch {
	case err != nil || code > 0xffffff:
		return ""
	case code>>16 == 0x02:
		return Network
	case slices.Contains([]uint64{0x0300, 0x0302, 0x0380, 0x1200}, code>>8):
		return GPU
	}
	return ""
}

// ParseSpeed reads "16.0 GT/s PCIe" (before Linux 5.8: "16 GT/s") and returns transfers per second, 0 for "Unknown" and what is not
// understood.
func ParseSpeed(text []byte) float64 {
	number, rest, found := strings.Cut(string(text), " ")
	if !found || !strings.HasPrefix(rest, "GT/s") {
		return 0
	}
	const most = 1024
	speed, err := strconv.ParseFloat(number, 64)
	if err != nil || !(speed > 0 && speed <= most) {
		return 0
	}
	return speed * 1e9
}

// ParseLanes reads a width, 0 where it is none: a device without a link says 0, the kernel 255 for what it does not know, and one
// that fell off the bus 63.
func ParseLanes(text []byte) int {
	lanes, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 8)
	if err != nil || !slices.Contains([]uint64{1, 2, 4, 8, 12, 16, 32}, lanes) {
		return 0
	}
	return int(lanes)
}
