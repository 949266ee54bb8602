package link

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"netmon/core/units"
)

// ethtoolCommand is struct ethtool_cmd of linux/ethtool.h, which every driver still answers through ETHTOOL_GSET.
type ethtoolCommand struct {
	cmd, supported, advertising              uint32
	speedLow                                 uint16 // Mbit/s, low half; both halves all ones: unknown
	duplex, port, phyAddress, transceiver    uint8
	autoneg, mdioSupport                     uint8
	maxTxPackets, maxRxPackets               uint32
	speedHigh                                uint16
	tpMDIX, tpMDIXControl                    uint8
	partnerAdvertising, reserved0, reserved1 uint32
}

// ifreqData is struct ifreq of linux/if.h with a pointer in its union.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

const (
	ethtoolGetSettings = 0x1
	duplexHalf         = 0
	duplexFull         = 1
	speedUnknown       = 0xffffffff
)

// readSpeed asks the driver for speed and duplex (ioctl SIOCETHTOOL through any socket of the namespace).
func readSpeed(fd int, l *Link) {
	if l.Kind == Loopback {
		l.SpeedReason = "loopback has no link speed"
		return
	}
	command := ethtoolCommand{cmd: ethtoolGetSettings}
	request := ifreqData{data: unsafe.Pointer(&command)}
	copy(request.name[:unix.IFNAMSIZ-1], l.Name)
	_, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		l.SpeedReason = speedReason(errno)
		return
	}
	switch command.duplex {
	case duplexHalf:
		l.Duplex = "half"
	case duplexFull:
		l.Duplex = "full"
	}
	speed := uint32(command.speedHigh)<<16 | uint32(command.speedLow)
	switch {
	case speed == 0 || speed == speedUnknown || speed == 0xffff:
		l.SpeedReason = "the driver does not know the link speed"
	case l.Kind == Tunnel:
		// drivers/net/tun.c answers 10 Mbit/s, whatever the machine can do.
		l.SpeedReason = "a tunnel has no link speed"
		l.Duplex = ""
	default:
		l.LinkSpeedBits = units.MegabitsToBits(speed)
	}
}

func speedReason(err error) string {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return "the driver does not report a link speed"
	}
	return "ethtool: " + err.Error()
}
