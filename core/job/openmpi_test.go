package job

import "testing"

// Open MPI's OMPI_COMM_WORLD_NODE_RANK numbers the processes on a node, over all jobs (mpirun(1), "Environment variables"): taken
// for the node's number, four ranks of one node looked like four nodes.
func TestFromEnvironment_openMPINodeRankIsNotTheNode(t *testing.T) {
	variables := map[string]string{
		"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4",
		"OMPI_COMM_WORLD_LOCAL_RANK": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "4", "OMPI_COMM_WORLD_NODE_RANK": "3",
	}
	got := FromEnvironment(Map(variables))
	if got.NodeRank != nil {
		t.Errorf("node_rank is %d, want unknown", *got.NodeRank)
	}
	if got.LocalRank == nil || *got.LocalRank != 3 || got.Source == nil || *got.Source != "open mpi" {
		t.Errorf("local_rank %v from %v, want 3 from open mpi", got.LocalRank, got.Source)
	}
	variables["NODE_RANK"] = "1"
	if got = FromEnvironment(Map(variables)); got.NodeRank == nil || *got.NodeRank != 1 {
		t.Errorf("node_rank is %v, want 1 from NODE_RANK", got.NodeRank)
	}
}
