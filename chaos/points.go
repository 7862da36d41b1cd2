package chaos

const (
	pointsVariable = "POSTA_FAILPOINTS"
	mutantVariable = "POSTA_MUTANT"
)
