package job

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSettingsFrom(t *testing.T) {
	variables := map[string]string{"NCCL_IB_HCA": " mlx5 ", "NCCL_NET": "", "NCCL_DEBUG": "INFO", "API_KEY": "secret", "FI_PROVIDER": "efa"}
	assert.Equal(t, Settings{"NCCL_IB_HCA": "mlx5", "FI_PROVIDER": "efa"}, SettingsFrom(Map(variables)), "only what is listed, and not empty")
	assert.Equal(t, Settings{}, SettingsFrom(Map(nil)))
	t.Setenv("TP_SOCKET_IFNAME", "eth7")
	assert.Equal(t, "eth7", SettingsFromProcess()[TPSocketIfname])
}
