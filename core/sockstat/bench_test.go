package sockstat

import (
	"os"
	"testing"
)

func BenchmarkParse(b *testing.B) {
	text, err := os.ReadFile("/proc/net/" + Path)
	if err != nil {
		b.Skip(err)
	}
	var values Values
	b.ReportAllocs()
	for b.Loop() {
		if err := Parse(Path, text, &values); err != nil {
			b.Fatal(err)
		}
	}
}
