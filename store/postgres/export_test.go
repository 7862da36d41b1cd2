package postgres

// The statements whose plans plan_test.go checks.
var (
	ClaimOrdinaryNext = sqlClaimOrdinaryNext
	ListQueues        = sqlListQueues
	NextDue           = sqlNextDue
	ExpireFinished    = sqlExpireFinished
	RenewLeases       = sqlRenewLeases
	AdoptTasks        = sqlAdoptTasks
	ReapClaims        = sqlReapClaims
)
