package doctor

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/posta-tasks/posta/blob/s3"
)

// Blobs returns the check of the storage of large bodies that a URL names. In a bucket it makes a body of
// its own, and deletes it. env looks up a variable of the environment, where the keys are.
func Blobs(url string, env func(name string) (string, bool)) ([]Check, error) {
	scheme, place, _ := strings.Cut(url, "://")
	switch {
	case scheme == "file" && place != "":
		return []Check{Directory("blobs", place)}, nil
	case scheme != "s3":
		return nil, &UnknownURLError{Kind: "storage for blobs", Allowed: "file://DIR, such as file://blobs, and s3://BUCKET?endpoint=URL"}
	}
	return []Check{{Part: "blobs", Look: func(ctx context.Context) []Finding {
		config, err := s3.ParseURL(url)
		if err != nil {
			return judgeBucket(s3.Report{}, err)
		}
		config.Credentials = s3.EnvironmentKeys(env)
		config.Region = cmp.Or(config.Region, s3.EnvironmentRegion(env))
		bucket, err := s3.Open(config)
		if err != nil {
			return judgeBucket(s3.Report{}, err)
		}
		r, err := bucket.Check(ctx)
		return judgeBucket(r, errors.Join(err, bucket.Close()))
	}}}, nil
}

// bucketFixes is what helps against an error, by the name that S3 has for it.
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

func judgeBucket(r s3.Report, err error) []Finding {
	if err != nil {
		fix := bucketFixes()[s3.Code(err)]
		if fix == "" {
			fix = "is it up, and does ?endpoint= name it? tasks of up to 64 KiB are untouched meanwhile"
		}
		return []Finding{Fault(fix, "%s", err)}
	}
	found := []Finding{Good("the bucket answers"), judgeClock("blobs clock", r.Ahead)}
	if len(r.Refused) > 0 {
		found = append(found, Fault(bucketFixes()["AccessDenied"], "the keys may not %s", strings.Join(r.Refused, "; ")).Of("blobs rights"))
	} else {
		found = append(found, Good("the keys may do what a node does").Of("blobs rights"))
	}
	if r.Replaces {
		found = append(found, Doubt("use a server that knows If-None-Match on PutObject: a body might be replaced by another of a repeated attempt",
			"it replaces an object that was to be made only if there is none").Of("blobs safety"))
	}
	return found
}
