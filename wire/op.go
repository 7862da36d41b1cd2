package wire

import (
	"math/bits"
	"strings"
)

// Op is an operation that a line asks for.
type Op uint8

// The ops of the protocol.
const (
	OpRun Op = iota
	OpEnqueue
	OpGet
	OpWait
	OpWatch
	OpCancel
	OpRetry
	OpList
	OpQueues
	OpPause
	OpResume
	OpPing
	OpInfo
	OpAuth
	OpWork
	OpFinish
	OpFail
	OpRelease
	OpProgress
	OpSlots
	OpLeave
	opCount
)

// OpPoll and OpBeat are what workers without a connection ask for over HTTP. No line can ask for them.
const (
	OpPoll = opCount + iota
	OpBeat
	allOps
)

var opTexts = [opCount]string{
	"run", "enqueue", "get", "wait", "watch", "cancel", "retry", "list", "queues",
	"pause", "resume", "ping", "info", "auth",
	"work", "done", "fail", "release", "progress", "slots", "leave",
}

// String returns the op as it is written on the wire.
func (o Op) String() string {
	switch o {
	case OpPoll:
		return "poll"
	case OpBeat:
		return "beat"
	}
	return opTexts[o]
}

// ParseOp returns the op with exactly this name.
func ParseOp(name []byte) (Op, bool) {
	for op, text := range opTexts {
		if string(name) == text {
			return Op(op), true
		}
	}
	return 0, false
}

func opNames() string { return strings.Join(opTexts[:], ", ") }

// field is a key that at least one op has. The order of the fields is the order in which they are checked.
type field uint8

const (
	fieldID field = iota
	fieldOp
	fieldAction
	fieldPayload
	fieldTimeout
	fieldToken
	fieldPayloadBlob
	fieldQueue
	fieldDelay
	fieldRunAt
	fieldExpires
	fieldPriority
	fieldMaxAttempts
	fieldBackoff
	fieldBackoffMax
	fieldKey
	fieldKeep
	fieldKeepFailed
	fieldMeta
	fieldWait
	fieldTask
	fieldAfter
	fieldFilter
	fieldStatus
	fieldSince
	fieldUntil
	fieldLimit
	fieldCursor
	fieldOwner
	fieldLease
	fieldData
	fieldDataBlob
	fieldError
	fieldRetry
	fieldRetryAfter
	fieldPercent
	fieldMessage
	fieldWork
	fieldActions
	fieldQueues
	fieldSlots
	fieldWorker
	fieldVersion
	fieldHold
	fieldGrace
	fieldIdempotent
	fieldLeaseS
	fieldLeases
	fieldPassedOn
	fieldRun
	noField // means a key that is no field
	fieldCount
)

var fieldTexts = [noField]string{
	"id", "op", "action", "payload", "timeout", "token", "payload_blob", "queue", "delay", "run_at",
	"expires", "priority", "max_attempts", "backoff", "backoff_max", "key", "keep", "keep_failed", "meta", "wait", "task", "after",
	"filter", "status", "since", "until", "limit", "cursor", "owner",
	"lease", "data", "data_blob", "error", "retry", "retry_after", "percent", "message",
	"work", "actions", "queues", "slots", "worker", "version", "hold", "grace", "idempotent", "lease_s", "leases",
	"passed_on", "run",
}

// fieldNamed returns the field with exactly this name.
func fieldNamed(name []byte) field {
	switch string(name) {
	case "id":
		return fieldID
	case "op":
		return fieldOp
	case "action":
		return fieldAction
	case "payload":
		return fieldPayload
	case "timeout":
		return fieldTimeout
	case "lease":
		return fieldLease
	case "data":
		return fieldData
	}
	for f := fieldToken; f < noField; f++ {
		if string(name) == fieldTexts[f] {
			return f
		}
	}
	return noField
}

// firstField returns the name of the first field of a set.
func firstField(set uint64) string { return fieldTexts[bits.TrailingZeros64(set)] }

// fieldNames returns the names of the fields in a set.
func fieldNames(set uint64) string {
	var names []string
	for f := range noField {
		if set&(1<<f) != 0 {
			names = append(names, fieldTexts[f])
		}
	}
	return strings.Join(names, ", ")
}

// fields returns the set of the listed fields.
func fields(list ...field) (set uint64) {
	for _, f := range list {
		set |= 1 << f
	}
	return set
}

// nodeFields has the fields that only nodes send to each other. Messages for clients do not name them.
var nodeFields = fields(fieldPassedOn, fieldRun)

// envelopeFields has the fields of every op.
var envelopeFields = fields(fieldID, fieldOp)

// opFields has the fields that each op may have.
var opFields = [allOps]uint64{
	OpRun: envelopeFields | fields(fieldAction, fieldPayload, fieldTimeout, fieldPassedOn),
	OpEnqueue: envelopeFields | fields(fieldAction, fieldPayload, fieldPayloadBlob, fieldQueue, fieldDelay, fieldRunAt,
		fieldExpires, fieldPriority, fieldTimeout, fieldMaxAttempts, fieldBackoff,
		fieldBackoffMax, fieldKey, fieldKeep, fieldKeepFailed, fieldMeta, fieldWait),
	OpGet:    envelopeFields | fields(fieldTask, fieldPayload),
	OpWait:   envelopeFields | fields(fieldTask, fieldTimeout),
	OpWatch:  envelopeFields | fields(fieldTask, fieldAfter),
	OpCancel: envelopeFields | fields(fieldTask, fieldFilter, fieldLimit, fieldRun),
	OpRetry:  envelopeFields | fields(fieldTask, fieldFilter, fieldLimit),
	OpList:   envelopeFields | fields(fieldQueue, fieldAction, fieldStatus, fieldOwner, fieldMeta, fieldSince, fieldUntil, fieldLimit, fieldCursor),
	OpQueues: envelopeFields,
	OpPause:  envelopeFields | fields(fieldQueue),
	OpResume: envelopeFields | fields(fieldQueue),
	OpPing:   envelopeFields,
	OpInfo:   envelopeFields,
	OpAuth:   envelopeFields | fields(fieldToken),

	OpWork: envelopeFields | fields(fieldActions, fieldQueues, fieldSlots, fieldWorker, fieldVersion, fieldHold,
		fieldGrace, fieldIdempotent),
	OpFinish:   envelopeFields | fields(fieldLease, fieldData, fieldDataBlob),
	OpFail:     envelopeFields | fields(fieldLease, fieldError, fieldRetry, fieldRetryAfter),
	OpRelease:  envelopeFields | fields(fieldLease, fieldDelay),
	OpProgress: envelopeFields | fields(fieldLease, fieldPercent, fieldMessage),
	OpSlots:    envelopeFields | fields(fieldWork, fieldSlots),
	OpLeave:    envelopeFields | fields(fieldWork),

	OpPoll: fields(fieldActions, fieldQueues, fieldSlots, fieldWorker, fieldVersion, fieldWait, fieldLeaseS),
	OpBeat: fields(fieldWorker, fieldLeases, fieldLeaseS),
}

// opRequires has the fields that each op must have.
var opRequires = [allOps]uint64{
	OpRun: fields(fieldAction), OpEnqueue: fields(fieldAction),
	OpGet: fields(fieldTask), OpWait: fields(fieldTask), OpWatch: fields(fieldTask),
	OpPause: fields(fieldQueue), OpResume: fields(fieldQueue), OpAuth: fields(fieldToken),
	OpWork: fields(fieldActions), OpFinish: fields(fieldLease), OpFail: fields(fieldLease, fieldError),
	OpRelease: fields(fieldLease), OpProgress: fields(fieldLease), OpSlots: fields(fieldWork, fieldSlots), OpLeave: fields(fieldWork),
	OpPoll: fields(fieldActions), OpBeat: fields(fieldWorker, fieldLeases),
}

// IsOfWorker reports whether workers send the op.
func (o Op) IsOfWorker() bool { return o >= OpWork && o < allOps }
