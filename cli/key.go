package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/cli/doctor"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/task"
)

// keyTarget is the running system whose keys a verb changes.
type keyTarget struct {
	*target
	masterFile, cluster string
}

// addKeyTarget adds the flags of a target, and those with which the first key is made.
func addKeyTarget(out *terminal.Outside, cmd *cobra.Command) *keyTarget {
	k := &keyTarget{}
	cmd.Flags().StringVar(&k.masterFile, "master-key-file", "", "the `file` with the master secret of the nodes; with it, the command needs no key")
	cmd.Flags().StringVar(&k.cluster, "cluster", "posta", "the `name` of the system, as its nodes have it")
	k.target = addTarget(out, cmd, "master-key-file", "cluster")
	return k
}

// ask sends a request about keys, and decodes the answer.
func (k *keyTarget) ask(ctx context.Context, method, path string, body, into any) error {
	if k.masterFile != "" {
		master, err := auth.LoadMaster(k.masterFile)
		if err != nil {
			return fail(exitConfig, "it is the file that the nodes have", "%w", err)
		}
		pass, refusal := master.OperatorPass(k.cluster, time.Now())
		if refusal != nil {
			return refusal
		}
		k.token = pass
	}
	ctx, cancel := context.WithTimeout(ctx, doctor.Patience)
	defer cancel()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	web, base := k.Web()
	r, err := http.NewRequestWithContext(ctx, method, base+path, content)
	if err != nil {
		return err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := web.Do(r)
	if err != nil {
		return k.Unserved(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return k.Lost(err)
	}
	if response.StatusCode != http.StatusOK {
		var problem struct {
			Code   task.Code
			Detail string
			Field  string
		}
		if json.Unmarshal(text, &problem) != nil || problem.Code == "" {
			return k.Strange(text)
		}
		return &task.Error{Code: problem.Code, Message: problem.Detail, Field: problem.Field}
	}
	if err := json.Unmarshal(text, into); err != nil {
		return k.Strange(text)
	}
	return nil
}

// keyAnswer is a key as a node shows it.
type keyAnswer struct {
	ID            string    `json:"id"`
	Key           string    `json:"key,omitempty"`
	SigningSecret string    `json:"signing_secret,omitempty"`
	Name          string    `json:"name"`
	Grants        []string  `json:"grants"`
	By            string    `json:"by"`
	Created       time.Time `json:"created_at"`
	Used          time.Time `json:"used_at,omitzero"`
	Expires       time.Time `json:"expires_at,omitzero"`
	Revoked       time.Time `json:"revoked_at,omitzero"`
}

func newKey(out *terminal.Outside) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "key",
		GroupID: groupServe,
		Short:   "Make, list and revoke the keys of clients",
		Long: `Makes, lists and revokes the keys with which clients authenticate. A key has grants, such
as run:* or see:own, that say what its client may do; docs/access.md lists them. The
nodes need --master-key-file; ` + "`posta up`" + ` makes master.key in its data directory.

The first key is made with the master key file. After that, set POSTA_TOKEN to a key
with the grant manage:*.`,
		Example: `  posta key create ops --role admin --master-key-file posta-data/master.key
  posta key create web --role submitter --grant mint:*
  posta key list
  posta key revoke mfrggzdfmztw`,
		Args: noSuchVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeyCreate(out), newKeyList(out), newKeyRevoke(out))
	return cmd
}

func newKeyCreate(out *terminal.Outside) *cobra.Command {
	var grants []string
	role, asJSON := "", false
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a key, and print it once",
		Long: `Makes a key and prints it, with the secret with which a backend signs passes for its
users. Neither is stored, so they cannot be shown again. A key can be given only grants
that its maker has.`,
		Example: `  posta key create thumbs --grant work:resize@images
  posta key create web --role submitter --grant mint:* --json > web.key
  posta key create guest --role viewer --expires 24h`,
		Args: arguments(1, 1),
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&grants, "grant", nil, "what the key allows, `VERB:WHAT`, such as run:* or see:own; may be repeated")
	flags.StringVar(&role, "role", "", "adds the grants of a role: "+strings.Join(auth.Roles(), ", "))
	flags.DurationVar(&expires, "expires", 0, "the `time` from now after which the key ends, such as 24h; 0 means never")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object")
	to := addKeyTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(grants) == 0 && role == "" {
			return misuse("--role "+strings.Join(auth.Roles(), "|")+", or --grant VERB:WHAT", "a key without grants allows nothing")
		}
		if expires < 0 {
			return misuse("24h is a day, 0 is never", "--expires is %s", expires)
		}
		asked := struct {
			Name    string   `json:"name"`
			Grants  []string `json:"grants,omitempty"`
			Role    string   `json:"role,omitempty"`
			Expires float64  `json:"expires,omitempty"`
		}{args[0], grants, role, expires.Seconds()}
		var made keyAnswer
		if err := to.ask(cmd.Context(), http.MethodPost, "/v1/keys", asked, &made); err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(out.Results()).Encode(struct {
				ID            string   `json:"id"`
				Key           string   `json:"key"`
				SigningSecret string   `json:"signing_secret"`
				Grants        []string `json:"grants"`
			}{made.ID, made.Key, made.SigningSecret, made.Grants})
		}
		_, err := fmt.Fprintf(out.Results(), "id              %s\nkey             %s\nsigning secret  %s\ngrants          %s\n",
			made.ID, made.Key, made.SigningSecret, terminal.Printable(strings.Join(made.Grants, " ")))
		return err
	}
	return cmd
}

func newKeyList(out *terminal.Outside) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the keys, without their secrets",
		Long:    `Lists all keys, also the revoked ones, with what they allow and when they were used last.`,
		Example: "  posta key list\n  posta key list --json",
		Args:    arguments(0, 0),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	to := addKeyTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var answer struct{ Keys []keyAnswer }
		if err := to.ask(cmd.Context(), http.MethodGet, "/v1/keys", nil, &answer); err != nil {
			return err
		}
		if asJSON {
			return printLines(out.Stdout, answer.Keys)
		}
		table := tabwriter.NewWriter(out.Stdout, 6, 0, 2, ' ', 0)
		tableRow(table, "ID", "NAME", "STATE", "CREATED", "USED", "BY", "GRANTS")
		for i := range answer.Keys {
			key := &answer.Keys[i]
			used := "-"
			if !key.Used.IsZero() {
				used = key.Used.Local().Format(terminal.Time)
			}
			state := task.AccessKey{Expires: key.Expires, Revoked: key.Revoked}.State(time.Now())
			tableRow(table, key.ID, key.Name, state, key.Created.Local().Format(terminal.Time), used, key.By, strings.Join(key.Grants, " "))
		}
		return table.Flush()
	}
	return cmd
}

func newKeyRevoke(out *terminal.Outside) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke a key for good",
		Long: `Revokes a key and all its passes. Every node refuses it within 2 seconds, and closes the
connections of its clients.`,
		Example: `  posta key revoke mfrggzdfmztw`,
		Args:    arguments(1, 1),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	to := addKeyTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var key keyAnswer
		if err := to.ask(cmd.Context(), http.MethodDelete, "/v1/keys/"+url.PathEscape(args[0]), nil, &key); err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(out.Results()).Encode(key)
		}
		_, err := fmt.Fprintf(out.Results(), "key %s (%s) is revoked\n", terminal.Printable(key.ID), terminal.Printable(key.Name))
		return err
	}
	return cmd
}
