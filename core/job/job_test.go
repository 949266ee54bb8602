package job

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func number(v int64) *int64 { return &v }
func text(v string) *string { return &v }

func TestFromEnvironment(t *testing.T) {
	tests := map[string]struct {
		variables map[string]string
		want      Identity
	}{
		"nothing": {nil, Identity{}},
		"torchrun": {
			map[string]string{"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1",
				"MASTER_ADDR": "node0", "MASTER_PORT": "29500"},
			Identity{Rank: number(5), LocalRank: number(1), WorldSize: number(8), LocalWorldSize: number(4), NodeRank: number(1),
				MasterAddress: text("node0"), MasterPort: number(29500), Source: text("environment")},
		},
		"torchrun under srun: Slurm numbers the launchers": {
			map[string]string{"RANK": "3", "WORLD_SIZE": "16", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0",
				"SLURM_NODEID": "1", "NODE_RANK": "0"},
			Identity{Rank: number(3), WorldSize: number(16), NodeRank: number(0), Source: text("environment")},
		},
		"srun alone": {
			map[string]string{"SLURM_PROCID": "9", "SLURM_NTASKS": "11", "SLURM_LOCALID": "1", "SLURM_NODEID": "2",
				"SLURM_TASKS_PER_NODE": "4(x2),3", "MASTER_ADDR": "10.0.0.1"},
			Identity{Rank: number(9), WorldSize: number(11), LocalRank: number(1), NodeRank: number(2), LocalWorldSize: number(3),
				MasterAddress: text("10.0.0.1"), Source: text("slurm")},
		},
		"mpirun": {
			map[string]string{"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
				"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_COMM_WORLD_NODE_RANK": "0"},
			Identity{Rank: number(1), WorldSize: number(2), LocalRank: number(1), LocalWorldSize: number(2),
				Source: text("open mpi")},
		},
		"a Ray actor": {
			map[string]string{"RANK": "0", "WORLD_SIZE": "2", "RAY_LOCAL_RANK": "0", "RAY_LOCAL_WORLD_SIZE": "2"},
			Identity{Rank: number(0), WorldSize: number(2), LocalRank: number(0), LocalWorldSize: number(2),
				Ray: Ray{Worker: true}, Source: text("environment")},
		},
		"a shell in a Slurm allocation is no job": {map[string]string{"SLURM_NODEID": "0"}, Identity{}},
		"empty values are not set":                {map[string]string{"RANK": " ", "MASTER_ADDR": ""}, Identity{}},
		"values that cannot be": {
			map[string]string{"RANK": "zero", "WORLD_SIZE": "0", "LOCAL_RANK": "-1", "MASTER_PORT": "70000"},
			Identity{Source: text("environment"), Problems: map[string]string{
				"rank":        `RANK="zero" is not a whole number of at least 0`,
				"world_size":  `WORLD_SIZE="0" is not a whole number of at least 1`,
				"local_rank":  `LOCAL_RANK="-1" is not a whole number of at least 0`,
				"master_port": `MASTER_PORT=70000 is above 65535`,
			}},
		},
		"a task list that is none": {
			map[string]string{"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_TASKS_PER_NODE": "2(x"},
			Identity{Rank: number(0), WorldSize: number(1), Source: text("slurm"), Problems: map[string]string{
				"local_world_size": `SLURM_TASKS_PER_NODE="2(x": "2(x" is not of the form 4(x2)`,
			}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tt.want, FromEnvironment(Map(tt.variables)))
		})
	}
}

func TestOverlay_configurationWinsFieldByField(t *testing.T) {
	base := FromEnvironment(Map(map[string]string{"RANK": "1", "WORLD_SIZE": "2"}))
	merged := Overlay(base, Identity{Rank: number(0), MasterAddress: text("a"), Source: text("configuration")})
	assert.Equal(t, Identity{Rank: number(0), WorldSize: number(2), MasterAddress: text("a"),
		Source: text("environment+configuration")}, merged)
	peers := []Peer{{Rank: number(1), Address: "10.0.0.2"}}
	merged.Peers = peers
	assert.Equal(t, peers, Overlay(merged, Identity{Rank: number(1)}).Peers)
	assert.Empty(t, Overlay(merged, Identity{Peers: []Peer{}}).Peers, "none are none")
	again := Overlay(merged, Identity{Rank: number(1), Source: text("configuration")})
	assert.Equal(t, text("environment+configuration"), again.Source)
	same := Overlay(base, Identity{Source: text("configuration")})
	assert.Equal(t, base, same, "a configuration that says nothing changes nothing")
	told := Overlay(Overlay(base, Identity{Source: text("configuration")}), Identity{Rank: number(0), Source: text("torch.distributed")})
	assert.Equal(t, text("environment+torch.distributed"), told.Source)
	first := Overlay(Identity{Source: text("configuration")}, Identity{Rank: number(0), Source: text("torch.distributed")})
	assert.Equal(t, text("torch.distributed"), first.Source, "nothing came from the configuration")
}

func FuzzFromEnvironment(f *testing.F) {
	f.Add("4(x2),3", "2", "7")
	f.Add("1(x99999999999)", "-5", "")
	f.Add(",", "0", "9223372036854775808")
	f.Fuzz(func(t *testing.T, tasks, node, rank string) {
		id := FromEnvironment(Map(map[string]string{
			"SLURM_PROCID": rank, "SLURM_NTASKS": "4", "SLURM_TASKS_PER_NODE": tasks, "SLURM_NODEID": node,
		}))
		if id.LocalWorldSize != nil {
			assert.Positive(t, *id.LocalWorldSize)
		}
		if id.Rank != nil {
			assert.GreaterOrEqual(t, *id.Rank, int64(0))
		}
	})
}
