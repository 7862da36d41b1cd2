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

// Listing has the statements of a list.
type Listing struct{ List, Floor string }

// Listings returns the lists, by which tasks they have.
func Listings() map[string]Listing {
	all := map[string]Listing{}
	for name, l := range map[string]listing{
		"all tasks": listAll, "an owner": listOwned, "scheduled tasks": listScheduled, "running tasks": listRunning, "failed tasks": listFailed, "cancelled tasks": listCancelled,
	} {
		all[name] = Listing{l.list, l.floor}
	}
	return all
}
