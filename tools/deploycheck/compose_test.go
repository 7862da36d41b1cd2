// Package deploycheck has only tests. They check the files of deploy with the schemas and types of
// the programs that read them. It is a module of its own, so that Posta does not depend on those
// programs.
package deploycheck

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// deploy is the folder of the files.
const deploy = "../../deploy"

// load reads the compose file as docker compose does: strictly, by its schema, with variables.
func load(t *testing.T, env map[string]string) (*types.Project, error) {
	t.Helper()
	dir := filepath.Join(deploy, "compose")
	text, err := os.ReadFile(filepath.Join(dir, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: text}},
		Environment: env,
	})
}

func TestTheComposeFileMatchesItsSchema(t *testing.T) {
	t.Parallel()
	project, err := load(t, map[string]string{"POSTGRES_PASSWORD": "one", "RABBITMQ_PASSWORD": "two", "S3_SECRET_KEY": "three"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"node1", "node2", "node3"} {
		node, err := project.GetService(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := node.Environment["POSTA_NAME"]; got == nil || *got != name {
			t.Errorf("%s: POSTA_NAME is %v", name, got)
		}
		if got := node.Environment["POSTA_STORE"]; got == nil || *got != "postgres://posta:one@postgres:5432/posta?sslmode=disable" {
			t.Errorf("%s: POSTA_STORE is %v", name, got)
		}
		for _, need := range []string{"postgres", "rabbitmq", "s3"} {
			if _, ok := node.DependsOn[need]; !ok {
				t.Errorf("%s does not wait for %s", name, need)
			}
		}
	}
	for name, service := range project.Services {
		if service.Image == "" {
			t.Errorf("%s has no image", name)
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("other machines can reach %s: %+v", name, port)
			}
		}
		if service.Build != nil && service.Build.Target == "" {
			t.Errorf("%s does not name a target of the Dockerfile", name)
		}
	}
}

func TestTheComposeFileRequiresPasswords(t *testing.T) {
	t.Parallel()
	all := map[string]string{"POSTGRES_PASSWORD": "one", "RABBITMQ_PASSWORD": "two", "S3_SECRET_KEY": "three"}
	for missing := range all {
		env := map[string]string{}
		for name, value := range all {
			if name != missing {
				env[name] = value
			}
		}
		if _, err := load(t, env); err == nil {
			t.Errorf("without %s there is no error", missing)
		}
	}
}
