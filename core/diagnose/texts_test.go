package diagnose

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPercent(t *testing.T) {
	for ratio, want := range map[float64]string{
		0: "0 %", 1.1e-13: "0 %", 8.3e-9: "0 %", 2e-6: "0.0002 %", 0.0096: "0.96 %", 0.29: "29 %", 0.994: "99 %", 0.995: "100 %", 1: "100 %", 1.2: "120 %",
	} {
		assert.Equal(t, want, percent(ratio))
	}
}
