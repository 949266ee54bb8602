//go:build !linux

package monitor

import (
	"errors"

	"netmon/core/kernelfs"
	"netmon/core/tcpinfo"
)

func newSocketSource(fs kernelfs.FS) (SocketSource, error) { return tcpinfo.OpenOwn(fs) }

func newRouteSource() (RouteSource, error) { return nil, errors.ErrUnsupported }

func newDiagSource() (DiagSource, error) { return tcpinfo.OpenDiag() }
