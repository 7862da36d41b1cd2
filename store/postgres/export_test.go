package postgres

// The statements whose plans plan_test.go reads.
var (
	ClaimOthersNext = sqlClaimOthersNext
	ListQueues      = sqlListQueues
	NextDue         = sqlNextDue
	SweepTasks      = sqlSweepTasks
)
