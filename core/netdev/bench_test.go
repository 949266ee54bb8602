package netdev

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

// table is the header of this machine's file and rows made of one of its own.
func table(b *testing.B, rows int, packets uint64) []byte {
	b.Helper()
	text, err := os.ReadFile("/proc/net/" + Path)
	if err != nil {
		b.Skip(err)
	}
	lines := bytes.SplitAfterN(text, []byte("\n"), 3)
	var made bytes.Buffer
	made.Write(lines[0])
	made.Write(lines[1])
	for i := range rows {
		fmt.Fprintf(&made, "%8s: %7d %7d    0    0    0     0          0         0 %8d %7d    0    0    0     0       0          0\n",
			fmt.Sprintf("veth%d", i), 1500*packets, packets, 1400*packets, packets)
	}
	return made.Bytes()
}

func BenchmarkTable(b *testing.B) {
	for _, rows := range []int{4, 400} {
		for name, packets := range map[string][2]uint64{"idle": {1e6, 1e6}, "moving": {1e6, 1e6 + 1}} {
			b.Run(fmt.Sprintf("%s-%d", name, rows), func(b *testing.B) {
				texts := [2][]byte{table(b, rows, packets[0]), table(b, rows, packets[1])}
				var t Table
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if _, err := t.Parse(texts[i%2]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
