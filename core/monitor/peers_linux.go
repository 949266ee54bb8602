package monitor

import (
	"netmon/core/kernelfs"
	"netmon/core/link"
	"netmon/core/tcpinfo"
)

func newSocketSource(fs kernelfs.FS) (SocketSource, error) { return tcpinfo.OpenOwn(fs) }

func newRouteSource() (RouteSource, error) { return link.OpenRouter() }

func newDiagSource() (DiagSource, error) { return tcpinfo.OpenDiag() }
