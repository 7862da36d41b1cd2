package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/cli/terminal"
)

func newPass(out *terminal.Outside) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "pass",
		GroupID: groupServe,
		Short:   "Make a short-lived token for a browser or a phone",
		Long: `Makes passes. A pass is a JWT that is signed with the signing secret of a key. It names
its user, allows no more than its key, and ends after at most a day.`,
		Example: `  posta pass create --key web.key --sub user-7 --grant run:* --grant see:own`,
		Args:    noSuchVerb,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPassCreate(out))
	return cmd
}

func newPassCreate(out *terminal.Outside) *cobra.Command {
	var grants []string
	file, subject, cluster, asJSON := "", "", "", false
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a pass from the file of a key, without asking a node",
		Long: `Makes a pass from the file that ` + "`posta key create --json`" + ` has written. No node is asked.
The pass allows what both its grants and those of the key allow. With see:own, its
user can see the tasks of its subject.`,
		Example: `  posta pass create --key web.key --sub user-7 --grant run:* --grant see:own
  posta pass create --key web.key --sub user-7 --grant enqueue:mail --expires 1h`,
		Args: arguments(0, 0),
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "key", "", "the `file` that posta key create --json has written")
	flags.StringVar(&subject, "sub", "", "the `subject`, such as the id of a user: the owner of its tasks")
	flags.StringArrayVar(&grants, "grant", nil, "what the pass allows, `VERB:WHAT`; may be repeated")
	flags.DurationVar(&expires, "expires", auth.DefaultPass, "the `time` from now after which the pass ends, at most 24h")
	flags.StringVar(&cluster, "cluster", "posta", "the `name` of the system, as its nodes have it")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.RunE = func(*cobra.Command, []string) error {
		if file == "" || subject == "" || len(grants) == 0 {
			return misuse("--key web.key --sub user-7 --grant run:*", "a pass needs --key, --sub and --grant")
		}
		var key struct {
			ID            string `json:"id"`
			SigningSecret string `json:"signing_secret"`
		}
		text, err := readSmall(file)
		if err == nil && (json.Unmarshal(text, &key) != nil || key.ID == "" || key.SigningSecret == "") {
			err = fmt.Errorf("%s has no id and signing_secret", file)
		}
		if err != nil {
			return fail(exitConfig, "posta key create NAME --json > FILE writes it", "%w", err)
		}
		now := time.Now()
		pass, refusal := auth.SignPass(key.SigningSecret, key.ID, cluster, subject, grants, now, expires)
		if refusal != nil {
			return misuse("docs/access.md describes passes", "%s", refusal.Message)
		}
		if asJSON {
			return json.NewEncoder(out.Results()).Encode(struct {
				Pass    string    `json:"pass"`
				Expires time.Time `json:"expires_at"`
			}{pass, now.Add(expires).UTC().Truncate(time.Second)})
		}
		_, err = fmt.Fprintln(out.Results(), pass)
		return err
	}
	return cmd
}

// readSmall reads a small file.
func readSmall(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	const most = 64 << 10
	return io.ReadAll(io.LimitReader(file, most))
}
