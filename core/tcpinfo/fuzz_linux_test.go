package tcpinfo

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// datagram is a datagram of an answer, with one message.
func datagram(body []byte, kind uint16) []byte {
	text := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	text = binary.NativeEndian.AppendUint16(text, kind)
	text = append(text, make([]byte, unix.SizeofNlMsghdr-6)...)
	return append(text, body...)
}

func FuzzEachMessage(f *testing.F) {
	f.Add(datagram(message(infoBytes), sockDiagByFamily))
	f.Add(append(datagram(message(104), sockDiagByFamily), datagram(make([]byte, 4), unix.NLMSG_DONE)...))
	f.Add(datagram([]byte{0xfe, 0xff, 0xff, 0xff}, unix.NLMSG_ERROR))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = eachMessage(text, 0, func(s *Socket) {
			if !s.Info.State.Connected() {
				t.Error(s)
			}
		})
		_, _ = parseTableSize(text)
	})
}
