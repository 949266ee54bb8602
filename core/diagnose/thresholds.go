package diagnose

// The thresholds of all findings. docs/findings.md describes those that decide; TestThresholds_documented compares.
const (
	// Persistence. Views come every 2 s or so. One view of a busy host may show anything; three of five do not agree by chance. Where many
	// numbers agree in each view, two are enough: within 10 s somebody wants to know.
	recentViews   = 3 // whose numbers are put together: the median of three is deaf to one
	viewsToJudge  = 5
	hitsToReport  = 3
	strongHits    = 2
	missesToEnd   = 3 // in a row
	voteMemory    = 0.6
	votesToChange = 2.0
	viewsToHold   = 2.5 // times the time between views, for what a digest said
	// A finding of which nothing new is heard, because the job does not use the way any more, ends after a minute.
	silentSeconds = 60.0
	// What a link that has been at fault for so long explains is no second finding. Longer than what may be told first of a fault that is
	// another one.
	settledSeconds = 15.0
	// Of the last minute probes tell the shortest round trip (package reach).
	probeSeconds = 60.0
	// How long what a way did is remembered. Longer than a checkpoint or an evaluation takes, shorter than links change on purpose.
	baselineSeconds = 600.0
	baselineLeast   = 4 // values make a median
	baselineMost    = 15

	// A way is judged where it carried so much in a window: below that the kernel's round trip is of another time.
	activeBytes = 64 << 10
	activeRatio = 0.3 // of what the busiest way carried: TCP's estimate is of no use where little is sent at a time

	// slow_link. Half the rate must be found (0.5); TCP's estimate on one steady link varies by some 10 % (DESIGN 5), 0.7 lies between.
	slowRatio   = 0.7
	strongRatio = 0.65 // so little is enough twice
	// ... where TCP said in so many of the three views that the network was the limit: the median of one reading is not deaf to it.
	strongReadings = 2
	// A slow link has a queue before it: without one the sender, the receiver or a processor was the limit. 0.2 ms is what no
	// healthy host of the lab adds to the round trip of a loaded way, and 12 kB before a link of 500 Mbit/s.
	queueSeconds = 0.2e-3
	// ... and it is so much longer than the shortest of the others'. Healthy ones differ by 1.6 in three views, those before a link of half
	// the rate by 2.5, because the others have less to do.
	queueRatio       = 1.7
	strongQueueRatio = 2.0
	// Two hosts' ways stand in the same queue: they are told by the rate alone, and that varies.
	slowRatioOfTwo = 0.6
	hitsOfTwo      = 4
	// Where one direction carries so much less than the other, the other only waits for acknowledgements that stand in its queue.
	oneDirectionRatio = 0.6
	// ... and where TCP calls one limited by the network so much more often, in the last views.
	limitedApart  = 0.25
	limitedMemory = 0.7
	// Bursts to a host that receives at half the rate pile up before it. Round trips to it are 1.7 to 2.8 times those from it then, on ways
	// that carry little; 0.8 to 1.4 times where it sends at half the rate, 0.7 to 1.4 times where it is healthy. Two ways each: one has bad
	// moments.
	pileRatio = 1.7
	pileWays  = 2
	// Where there is nothing to compare with, the queue alone speaks: this long, and so much longer than the others'.
	queueAloneSeconds = 0.5e-3
	queueAloneRatio   = 4.0
	// The one of the two ends whose other ways are held up too is the culprit, by so much.
	leanRatio  = 1.5
	leanMemory = 0.6
	// ... told by so many newest probes at least, of ways that were heard of so lately.
	heldProbes  = 4
	heldSeconds = 10.0

	// lossy_link. 1 % must be found; TCP over clean links repeats less than 0.1 %.
	lossRatio       = 0.003
	lossMemory      = 0.85 // what counts of a view weigh in the next: half after four
	lossRemembered  = 5000 // segments of the busiest way at most: it is judged by its newest views, and needs no others
	lossBursts      = 3.0  // losses come in bursts of some: fewer events than segments
	lossSegments    = 5    // fewer are chance
	lossContrast    = 4.0  // times the others' ratio: where all lose alike, it is a full queue of all, not a link
	lossEvidence    = 6.0  // natural logarithm of the likelihood over that of chance: 1 in 400
	lossLead        = 2.0  // the same, over the second best culprit
	deadProbeRatio  = 0.9  // of probes lost: the host does not answer at all
	criticalLoss    = 0.05 // from here on TCP does not get along
	segmentBytes    = 1448 // of a segment on Ethernet, where segments are not counted
	loadedProbeLoss = 0.02 // of probes alone: fewer may be a target that limits its answers

	// high_latency. Ways inside a cluster take 0.02 to 0.5 ms; 1 ms more than the others and three times as long is another path.
	latencySeconds = 1e-3
	latencyRatio   = 3.0
	mostLong       = 8 // hosts in a view
	// A longer path has a hard floor: so many of the newest probes of the host are near the lowest. Those through a queue are anywhere.
	// With 18 probes at 5 ms more 4 to 12 were; through the queues of a busy job 1 to 3, so that less than clearFloorShare counts as a sign only
	// where most ways say something new.
	floorShare      = 0.1
	clearFloorShare = 0.2
	latencyProbes   = 6 // newest ones in all: of fewer, the lowest may be one that stood in a queue
	floorWidth      = 1.15
	// So slow a link explains any round trip.
	clearlySlow = 0.4
	// ... and hides who computes slowly. A busy host takes what comes at 0.35 of the rate now and then; at a tenth of the rate it is 0.07 to 0.28.
	strangledRatio = 0.3

	// slow_host. It comes last to most collectives, others wait for it, and waiting is not small beside the transfer: over a slow
	// link one rank is last too, by a part of the transfer.
	lastRatio         = 0.7
	waitingSeconds    = 2e-3
	waitingToTransfer = 0.5
	clearlyWaiting    = 1.5 // times the transfer: also where the network has a fault
	ownWaitingRatio   = 0.3 // of what others wait
	leastCompared     = 3
	// It computes longer than the others between collectives. Of four healthy hosts one does 1.2 times as long as the others in a view.
	outsideRatio   = 1.4
	clearlyOutside = 2.0 // twice is enough
	// ... or where it is clearly waited for: last to most collectives, and waiting for nobody beside what the others wait. Behind a slow
	// link or a longer way one rank seems so too, and its marks outlast the fault: so long ago must the last sign of one be.
	clearlyLast        = 0.6
	clearlyOwn         = 0.15
	noLinkSeconds      = 10.0
	outsideLeast       = 0.03 // of the time
	ownWaitingToOthers = 0.6
	mostlyLast         = 0.5
	waitingLeast       = 0.1 // of the transfer
	// Without durations to compare, its share of time in collectives is that small beside the others'.
	idleShareRatio = 0.4
	busyShare      = 0.3

	// stalled_rank. Nothing new for 3 of its intervals is "late" (package cluster). Others wait so long for one that is alive:
	// a checkpoint may take that, so it is told, not called a fault.
	pendingSeconds      = 10.0
	pendingLatenessOnly = 3.0 // others' collectives under way for so long beside a digest that stands still
	pendingToUsual      = 10.0

	// network_clean: measured enough to say so.
	cleanBytes    = 1 << 20 // carried in the views it is said of, by each host
	cleanSegments = 500
	cleanViews    = 5
	// One process sees a part of the job.
	localConfidence = 0.7
	renewSeconds    = 20.0 // after which the numbers of a finding that stays are renewed in samples
)

// Bounds of the memory.
const (
	mostWays      = 1 << 14 // between hosts
	mostLocalWays = 256
	mostHeld      = 256 // findings under way or about to be
	mostTold      = 64  // findings in one answer
)
