package postgres

// The statements whose plans plan_test.go checks.
var (
	AcceptTasks        = sqlAcceptTasks
	AdoptTasks         = sqlAdoptTasks
	CancelTasks        = sqlCancelTasks
	ClaimOrdinaryNamed = sqlClaimOrdinaryNamed
	ClaimOrdinaryNext  = sqlClaimOrdinaryNext
	ClaimSuspectsNext  = sqlClaimSuspectsNext
	EnterTasks         = sqlEnterTasks
	ExpireFinished     = sqlExpireFinished
	ExpireTasks        = sqlExpireTasks
	FindHolders        = sqlFindHolders
	FreeKeys           = sqlFreeKeys
	ImportTasks        = sqlImportTasks
	ListQueues         = sqlListQueues
	ListWaiting        = sqlListWaiting
	NextDue            = sqlNextDue
	PromoteTasks       = sqlPromoteTasks
	ReapClaims         = sqlReapClaims
	ReapTasks          = sqlReapTasks
	RecordOutcomes     = sqlRecordOutcomes
	RenewLeases        = sqlRenewLeases
	RetryTasks         = sqlRetryTasks
	TasksByID          = sqlTasksByID
)
