package doctor

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/minio/minio-go/v7"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/posta-tasks/posta/blob/s3"
	"github.com/posta-tasks/posta/broker/rabbitmq"
	"github.com/posta-tasks/posta/store/postgres"
)

// want is one finding that there must be, and the only one that is not ok.
type want struct {
	verdict   Verdict
	part, saw string
	fix       string
}

// judge compares findings with what is wanted; all others are ok.
func judge(t *testing.T, name string, found []Finding, w want) {
	t.Helper()
	seen := false
	for _, f := range found {
		switch {
		case f.Part == w.part && f.Verdict == w.verdict && strings.Contains(f.Saw, w.saw) && strings.Contains(f.Fix, w.fix):
			seen = true
		case f.Verdict != OK:
			t.Errorf("%s: found %+v", name, f)
		}
		if (f.Verdict == OK) != (f.Fix == "") {
			t.Errorf("%s: how to fix %+v?", name, f)
		}
	}
	if !seen {
		t.Errorf("%s: %+v was not found in %+v", name, w, found)
	}
}

func TestADatabaseIsJudged(t *testing.T) {
	t.Parallel()
	sound := postgres.Report{
		Release: 15, Schema: "posta", Version: 1, Accepts: 1, Known: 1, Limit: 97, Free: 94, PerNode: 12,
	}
	with := func(change func(*postgres.Report)) postgres.Report {
		r := sound
		change(&r)
		return r
	}
	code := func(code string) error { return fmt.Errorf("x: %w", &pgconn.PgError{Code: code}) }
	for name, c := range map[string]struct {
		report postgres.Report
		err    error
		want
	}{
		"all is well":         {sound, nil, want{OK, "", "PostgreSQL 15 answers, in plain text", ""}},
		"an old release":      {with(func(r *postgres.Report) { r.Release = 12 }), nil, want{Wrong, "", "at least 13", "upgrade"}},
		"no schema":           {with(func(r *postgres.Report) { r.Version = 0 }), nil, want{OK, "store schema", "no schema yet", ""}},
		"an older schema":     {with(func(r *postgres.Report) { r.Known = 2 }), nil, want{Warning, "store schema", "brings it to 2", "backup"}},
		"a later schema":      {with(func(r *postgres.Report) { r.Version = 2 }), nil, want{Warning, "store schema", "still works with it", "upgrade"}},
		"a much later schema": {with(func(r *postgres.Report) { r.Version, r.Accepts = 3, 2 }), nil, want{Wrong, "store schema", "version 3", "later one"}},
		"another time":        {with(func(r *postgres.Report) { r.Ahead = -time.Hour }), nil, want{Warning, "store clock", "1h0m0s apart", "time server"}},
		"no right":            {with(func(r *postgres.Report) { r.Lacks = []string{"INSERT on tasks"} }), nil, want{Wrong, "store rights", "INSERT on tasks", "OWNER"}},
		"no sync":             {with(func(r *postgres.Report) { r.Unsafe = []string{"fsync is off"} }), nil, want{Warning, "store safety", "fsync is off", "turn it on"}},
		"few connections":     {with(func(r *postgres.Report) { r.Limit, r.Free = 30, 27 }), nil, want{Warning, "store room", "room for 2 more", "max_connections"}},
		"none is left":        {with(func(r *postgres.Report) { r.Free = 1 }), nil, want{Warning, "store room", "room for 0 more", "max_connections"}},
		"a pooler":            {with(func(r *postgres.Report) { r.Pooled, r.Free = true, 1 }), nil, want{OK, "store room", "PgBouncer", ""}},
		"a wrong password":    {postgres.Report{}, code("28P01"), want{Wrong, "", "28P01", "password is wrong"}},
		"no database":         {postgres.Report{}, code("3D000"), want{Wrong, "", "3D000", "CREATE DATABASE"}},
		"it starts":           {postgres.Report{}, code("57P03"), want{Wrong, "", "57P03", "waits for it"}},
		"it stops":            {postgres.Report{}, code("57P01"), want{Wrong, "", "57P01", "is it up"}},
		"no URL":              {postgres.Report{}, errors.New("the URL"), want{Wrong, "", "the URL", "does the URL"}},
	} {
		judge(t, name, judgeDatabase(c.report, c.err), c.want)
	}
}

func TestABrokerIsJudged(t *testing.T) {
	t.Parallel()
	sound := rabbitmq.Report{Product: "RabbitMQ", Version: "3.10.8", RoundTrip: 2 * time.Millisecond, Encrypted: true}
	with := func(change func(*rabbitmq.Report)) rabbitmq.Report {
		r := sound
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		report rabbitmq.Report
		err    error
		want
	}{
		"all is well":    {sound, nil, want{OK, "", "RabbitMQ 3.10.8 answers, over TLS", ""}},
		"a new release":  {with(func(r *rabbitmq.Report) { r.Version = "4.2.0" }), nil, want{OK, "", "RabbitMQ 4.2.0", ""}},
		"an old release": {with(func(r *rabbitmq.Report) { r.Version = "3.9.29" }), nil, want{Wrong, "", "at least 3.10", "upgrade"}},
		"a later one":    {with(func(r *rabbitmq.Report) { r.Version = "5.0" }), nil, want{Warning, "", "tested with", "nothing"}},
		"another broker": {with(func(r *rabbitmq.Report) { r.Product = "Other" }), nil, want{Warning, "", "not known", "quorum"}},
		"no right":       {with(func(r *rabbitmq.Report) { r.Refused = []string{"publish to a queue: no"} }), nil, want{Wrong, "broker rights", "publish to a queue", "set_permissions"}},
		"no room":        {with(func(r *rabbitmq.Report) { r.Full, r.RoundTrip = "low on memory", 0 }), nil, want{Warning, "broker room", "low on memory", "memory"}},
		"it is slow":     {with(func(r *rabbitmq.Report) { r.RoundTrip = time.Second }), nil, want{Warning, "broker speed", "after 1s", "disk"}},
		"wrong password": {sound, fmt.Errorf("x: %w", amqp.ErrCredentials), want{Wrong, "", "password", "the password"}},
		"no vhost":       {sound, &amqp.Error{Code: amqp.NotAllowed, Reason: "vhost x not found", Server: true}, want{Wrong, "", "vhost", "add_vhost"}},
		"it is away":     {sound, errors.New("connection refused"), want{Wrong, "", "refused", "is it up"}},
	} {
		judge(t, name, judgeBroker(c.report, c.err), c.want)
	}
}

func TestABucketIsJudged(t *testing.T) {
	t.Parallel()
	code := func(code string) error { return fmt.Errorf("x: %w", minio.ErrorResponse{Code: code, Message: code}) }
	for name, c := range map[string]struct {
		report s3.Report
		err    error
		want
	}{
		"all is well":  {s3.Report{}, nil, want{OK, "", "answers", ""}},
		"no right":     {s3.Report{Refused: []string{"delete it (s3:DeleteObject)"}}, nil, want{Wrong, "blobs rights", "s3:DeleteObject", "s3:GetObject"}},
		"it replaces":  {s3.Report{Replaces: true}, nil, want{Warning, "blobs safety", "replaces", "If-None-Match"}},
		"another time": {s3.Report{Ahead: time.Minute}, nil, want{Warning, "blobs clock", "1m0s", "time server"}},
		"no bucket":    {s3.Report{}, code("NoSuchBucket"), want{Wrong, "", "NoSuchBucket", "make the bucket"}},
		"wrong keys":   {s3.Report{}, code("SignatureDoesNotMatch"), want{Wrong, "", "Signature", "AWS_SECRET"}},
		"it is away":   {s3.Report{}, errors.New("connection refused"), want{Wrong, "", "refused", "is it up"}},
	} {
		judge(t, name, judgeBucket(c.report, c.err), c.want)
	}
}

func TestAFileIsJudged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		found Finding
		want  Verdict
	}{
		"its schema is later": {judgeSchema(2, 0, 1), Wrong},
		"its schema is older": {judgeSchema(1, 0, 2), Warning},
		"it is whole":         {judgePages(nil, true), OK},
		"there was no time":   {judgePages(nil, false), OK},
		"it is damaged":       {judgePages(errors.New("page 3"), true), Wrong},
		"it syncs":            {judgeSync(2, "wal"), OK},
		"it syncs less":       {judgeSync(1, "wal"), Wrong},
		"it has a journal":    {judgeSync(2, "delete"), Wrong},
	} {
		if c.found.Verdict != c.want {
			t.Errorf("%s: %+v", name, c.found)
		}
	}
	found, err := Examine(t.Context(), Subject{Store: "sqlite://" + filepath.Join(t.TempDir(), "posta.db")})
	if err != nil {
		t.Fatal(err)
	}
	if !Sound(found) || len(found) < 2 || !strings.Contains(found[1].Saw, "not there yet") {
		t.Errorf("one that is not there: %+v", found)
	}
}

// TestAURLOfAnotherKindIsRefused also keeps its secret.
func TestAURLOfAnotherKindIsRefused(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"mysql://u:s3cret@h/d", "sqlite://", "kafka://u:s3cret@h", "gs://u:s3cret@b"} {
		for _, s := range []Subject{{Store: url}, {Broker: url}, {Blobs: url}} {
			_, err := Examine(t.Context(), s)
			if unknown := (*UnknownURLError)(nil); !errors.As(err, &unknown) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: %v", url, err)
			}
		}
	}
}
