package doctor

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/posta-tasks/posta/blob/s3"
)

// bucket checks a bucket of an S3 server. It writes an object there and deletes it.
func (s Subject) bucket(ctx context.Context, url string) []Finding {
	config, err := s3.ParseURL(url)
	if err != nil {
		return judgeBucket(s3.Report{}, err)
	}
	config.Credentials = s3.EnvironmentKeys(s.Env)
	config.Region = cmp.Or(config.Region, s3.EnvironmentRegion(s.Env))
	b, err := s3.Open(config)
	if err != nil {
		return judgeBucket(s3.Report{}, err)
	}
	r, err := b.Check(ctx)
	return judgeBucket(r, errors.Join(err, b.Close()))
}

// bucketFixes returns how to fix an error, by its code in S3.
func bucketFixes() map[string]string {
	const keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or files that …_FILE names, are those of the server?"
	return map[string]string{
		"NoSuchBucket":          "make the bucket, or name another",
		"InvalidAccessKeyId":    keys,
		"SignatureDoesNotMatch": keys + " the region too: ?region=",
		"RequestTimeTooSkewed":  "let both machines follow the same time server",
		"AccessDenied":          "give the keys s3:PutObject, s3:GetObject, s3:ListBucket and s3:DeleteObject",
	}
}

// judgeBucket judges what s3.Check reports.
func judgeBucket(r s3.Report, err error) []Finding {
	if err != nil {
		fix := bucketFixes()[s3.Code(err)]
		if fix == "" {
			fix = "is it up, and does ?endpoint= name it? tasks of up to 64 KiB are untouched meanwhile"
		}
		return []Finding{fault(fix, "%s", err)}
	}
	found := []Finding{good("the bucket answers"), judgeClock("blobs clock", r.Ahead)}
	if len(r.Refused) > 0 {
		found = append(found, fault(bucketFixes()["AccessDenied"], "the keys may not %s", strings.Join(r.Refused, "; ")).of("blobs rights"))
	} else {
		found = append(found, good("the keys may do what a node does").of("blobs rights"))
	}
	if r.Replaces {
		found = append(found, doubt("use a server that knows If-None-Match on PutObject: a body might be replaced by another of a repeated attempt",
			"it replaces an object that was to be made only if there is none").of("blobs safety"))
	}
	return found
}
