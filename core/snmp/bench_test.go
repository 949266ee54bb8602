package snmp

import (
	"os"
	"testing"
)

func BenchmarkParser(b *testing.B) {
	parser := NewParser()
	for _, path := range []string{PathSNMP, PathNetstat, PathSNMP6} {
		b.Run(path, func(b *testing.B) {
			text, err := os.ReadFile("/proc/net/" + path)
			if err != nil {
				b.Skip(err)
			}
			var values Values
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if path == PathSNMP6 {
					err = parser.ParseSNMP6(text, &values)
				} else {
					err = parser.ParseTable(path, text, &values)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
