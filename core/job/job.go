// Package job finds out which process of which training job this is.
//
// Source: environment variables of launchers (torchrun and what follows its names, Open MPI and PMI, Slurm, Ray) and of the
// communication libraries, and what the configuration says of the job, which wins field by field. It is the only package that reads the environment. A process that changes
// its environment after it started (as Python's os.environ does) hands the variables over in the configuration, because the
// Go runtime sees only those of its start.
package job

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"netmon/core/probe"
)

// Identity says which process of a job this is; nil is not known.
type Identity struct {
	Rank           *int64
	LocalRank      *int64
	WorldSize      *int64
	LocalWorldSize *int64
	NodeRank       *int64
	MasterAddress  *string
	MasterPort     *int64
	// Peers are the hosts of the job's ranks. No launcher tells them in the environment.
	Peers []Peer
	// Targets are whom else to probe. They are no part of the job, but told with it.
	Targets []probe.Target
	// Ray is what the environment says of the Ray node that runs this process.
	Ray Ray
	// Source says where the fields came from: "environment", "slurm", "open mpi", "pmi", "configuration", what the caller of
	// netmon_set_job named, or several of these joined by "+".
	Source *string
	// Problems names fields, as "rank", whose variable held something that cannot be.
	Problems map[string]string
}

// Ray is what a worker of a Ray node knows of it.
type Ray struct {
	Worker bool  // the process runs under Ray
	Raylet int64 // process id of the node's raylet, 0 where it is not known
}

// Peer is the host of a rank.
type Peer struct {
	Rank    *int64
	Address string // or name
}

// Lookup reads one environment variable, as os.LookupEnv does.
type Lookup func(name string) (value string, found bool)

// Map is a Lookup over variables handed over in a configuration.
func Map(variables map[string]string) Lookup {
	return func(name string) (string, bool) {
		value, found := variables[name]
		return value, found
	}
}

// Over is a Lookup over variables handed over, and where they lack one over the environment this process was started with.
func Over(variables map[string]string) Lookup {
	return func(name string) (string, bool) {
		if value, found := variables[name]; found {
			return value, true
		}
		return os.LookupEnv(name)
	}
}

// FromProcess reads an identity from the environment this process was started with.
func FromProcess() Identity { return FromEnvironment(os.LookupEnv) }

type reader struct {
	lookup Lookup
	id     Identity
}

// FromEnvironment reads an identity from environment variables.
//
// The launcher is the first of these whose rank is set: torchrun's names (RANK), Open MPI, PMI, Slurm. Its variables are not
// mixed with another's, because a batch system numbers launchers where torchrun numbers workers. MASTER_ADDR, MASTER_PORT and
// NODE_RANK hold with any of them.
func FromEnvironment(lookup Lookup) Identity {
	r := reader{lookup: lookup}
	launcher := ""
	switch {
	case r.has("RANK"), r.has("WORLD_SIZE"), r.has("LOCAL_RANK"):
		launcher = "environment"
		r.number(&r.id.Rank, "rank", 0, "RANK")
		r.number(&r.id.WorldSize, "world_size", 1, "WORLD_SIZE")
		r.number(&r.id.LocalRank, "local_rank", 0, "LOCAL_RANK", "RAY_LOCAL_RANK")
		r.number(&r.id.LocalWorldSize, "local_world_size", 1, "LOCAL_WORLD_SIZE", "RAY_LOCAL_WORLD_SIZE")
	case r.has("OMPI_COMM_WORLD_RANK"):
		launcher = "open mpi"
		r.number(&r.id.Rank, "rank", 0, "OMPI_COMM_WORLD_RANK")
		r.number(&r.id.WorldSize, "world_size", 1, "OMPI_COMM_WORLD_SIZE")
		r.number(&r.id.LocalRank, "local_rank", 0, "OMPI_COMM_WORLD_LOCAL_RANK")
		r.number(&r.id.LocalWorldSize, "local_world_size", 1, "OMPI_COMM_WORLD_LOCAL_SIZE")
		// OMPI_COMM_WORLD_NODE_RANK is no node_rank: it numbers the processes of one node.
	case r.has("PMI_RANK"):
		launcher = "pmi"
		r.number(&r.id.Rank, "rank", 0, "PMI_RANK")
		r.number(&r.id.WorldSize, "world_size", 1, "PMI_SIZE")
		r.number(&r.id.LocalRank, "local_rank", 0, "MPI_LOCALRANKID", "PMI_LOCAL_RANK")
		r.number(&r.id.LocalWorldSize, "local_world_size", 1, "MPI_LOCALNRANKS", "PMI_LOCAL_SIZE")
	case r.has("SLURM_PROCID") && r.has("SLURM_NTASKS"):
		launcher = "slurm"
		r.number(&r.id.Rank, "rank", 0, "SLURM_PROCID")
		r.number(&r.id.WorldSize, "world_size", 1, "SLURM_NTASKS")
		r.number(&r.id.LocalRank, "local_rank", 0, "SLURM_LOCALID")
		r.slurmTasks()
	}
	if r.id.NodeRank == nil {
		r.number(&r.id.NodeRank, "node_rank", 0, "NODE_RANK", "GROUP_RANK", "SLURM_NODEID")
	}
	if address, found := r.get("MASTER_ADDR"); found {
		r.id.MasterAddress = &address
	}
	r.number(&r.id.MasterPort, "master_port", 1, "MASTER_PORT")
	if r.id.MasterPort != nil && *r.id.MasterPort > 65535 {
		r.problem("master_port", "MASTER_PORT=%d is above 65535", *r.id.MasterPort)
		r.id.MasterPort = nil
	}
	if launcher == "" && (r.id.MasterAddress != nil || r.id.MasterPort != nil) {
		launcher = "environment"
	}
	for _, variable := range rayVariables() {
		r.id.Ray.Worker = r.id.Ray.Worker || r.has(variable)
	}
	if text, found := r.get("RAY_RAYLET_PID"); found {
		r.id.Ray.Raylet, _ = strconv.ParseInt(text, 10, 32)
	}
	if launcher != "" {
		r.id.Source = &launcher
	} else {
		r.id.NodeRank = nil
	}
	return r.id
}

// rayVariables are those that say that a process runs under Ray: what a raylet sets for its workers (src/ray/common/constants.h), Ray
// Train for its own, and people for their drivers.
func rayVariables() []string {
	return []string{"RAY_RAYLET_PID", "RAY_JOB_ID", "RAY_LOCAL_RANK", "RAY_ADDRESS"}
}

func (r *reader) get(name string) (string, bool) {
	value, found := r.lookup(name)
	value = strings.TrimSpace(value)
	return value, found && value != ""
}

func (r *reader) has(name string) bool {
	_, found := r.get(name)
	return found
}

func (r *reader) problem(field, format string, args ...any) {
	if r.id.Problems == nil {
		r.id.Problems = make(map[string]string)
	}
	r.id.Problems[field] = fmt.Sprintf(format, args...)
}

// number takes the first variable that is set; one that is no number of at least least is a problem, not a reason to look on.
func (r *reader) number(field **int64, name string, least int64, variables ...string) {
	for _, variable := range variables {
		text, found := r.get(variable)
		if !found {
			continue
		}
		value, err := strconv.ParseInt(text, 10, 64)
		if err != nil || value < least {
			r.problem(name, "%s=%q is not a whole number of at least %d", variable, text, least)
			return
		}
		*field = &value
		return
	}
}

// slurmTasks reads the number of tasks on this node from lists such as "4(x2),3" (srun(1), SLURM_TASKS_PER_NODE).
func (r *reader) slurmTasks() {
	list, found := r.get("SLURM_STEP_TASKS_PER_NODE")
	if !found {
		if list, found = r.get("SLURM_TASKS_PER_NODE"); !found {
			return
		}
	}
	var node int64
	if text, ok := r.get("SLURM_NODEID"); ok {
		var err error
		if node, err = strconv.ParseInt(text, 10, 64); err != nil {
			return
		}
	}
	tasks, err := tasksOfNode(list, node)
	if err != nil {
		r.problem("local_world_size", "SLURM_TASKS_PER_NODE=%q: %v", list, err)
		return
	}
	r.id.LocalWorldSize = &tasks
}

func tasksOfNode(list string, node int64) (int64, error) {
	for _, part := range strings.Split(list, ",") {
		count, times := part, int64(1)
		if open := strings.Index(part, "(x"); open >= 0 && strings.HasSuffix(part, ")") {
			count = part[:open]
			var err error
			if times, err = strconv.ParseInt(part[open+2:len(part)-1], 10, 64); err != nil || times < 1 {
				return 0, fmt.Errorf("%q is not of the form 4(x2)", part)
			}
		}
		tasks, err := strconv.ParseInt(count, 10, 64)
		if err != nil || tasks < 1 {
			return 0, fmt.Errorf("%q is not of the form 4(x2)", part)
		}
		if node < times {
			return tasks, nil
		}
		node -= times
	}
	return 0, fmt.Errorf("names fewer nodes than SLURM_NODEID says")
}

// knowsAny tells whether any field is known.
func (id *Identity) knowsAny() bool {
	return id.Rank != nil || id.LocalRank != nil || id.WorldSize != nil || id.LocalWorldSize != nil || id.NodeRank != nil ||
		id.MasterAddress != nil || id.MasterPort != nil
}

// Overlay returns base with the fields that over knows replacing its own, and with both sources named, if both know any.
func Overlay(base, over Identity) Identity {
	merged := base
	if !base.knowsAny() {
		base.Source = nil
	}
	changed := false
	number := func(field **int64, value *int64) {
		if value != nil {
			*field, changed = value, true
		}
	}
	number(&merged.Rank, over.Rank)
	number(&merged.LocalRank, over.LocalRank)
	number(&merged.WorldSize, over.WorldSize)
	number(&merged.LocalWorldSize, over.LocalWorldSize)
	number(&merged.NodeRank, over.NodeRank)
	number(&merged.MasterPort, over.MasterPort)
	if over.MasterAddress != nil {
		merged.MasterAddress, changed = over.MasterAddress, true
	}
	if over.Peers != nil {
		merged.Peers, changed = over.Peers, true
	}
	if over.Targets != nil {
		merged.Targets = over.Targets
	}
	if changed && over.Source != nil {
		source := *over.Source
		if base.Source != nil && !strings.Contains("+"+*base.Source+"+", "+"+source+"+") {
			source = *base.Source + "+" + source
		} else if base.Source != nil {
			source = *base.Source
		}
		merged.Source = &source
	}
	return merged
}
