package cli

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/balancer"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// deployed reads the files of deploy, and the pages beside them, by their path there.
func deployed(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*", "*/*", "*/.*"} {
		found, err := filepath.Glob("../deploy/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	for _, path := range pages {
		if info, err := os.Stat(path); err != nil || info.IsDir() || strings.HasSuffix(path, "cli.md") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(path, "../")] = string(text)
	}
	return files
}

// The shapes in which files name command lines of posta.
var (
	started = regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/posta (.*)$`)
	listed  = regexp.MustCompile(`(?m)^(?:\s+(?:command|args): |CMD |HEALTHCHECK .* CMD )(\[.*\])$`)
	spoken  = regexp.MustCompile(`(?m)^\s*(?:#\s+)?posta ([a-z]+ ?[^|>` + "`" + `…]*?)(?:\s+[|>#].*)?$`)
	// shellWord is a word of a command line; spaces in single quotes do not end it.
	shellWord = regexp.MustCompile(`(?:'[^']*'|[^\s'])+`)
	setting   = regexp.MustCompile(`(?m)^\s*(?:# )?(POSTA_[A-Z_]+)(?:: |=)"?([^"\n]*)"?$`)
)

// commands returns the command lines that a text names, without the program.
func commands(t *testing.T, text string) [][]string {
	t.Helper()
	var all [][]string
	for _, m := range started.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.Fields(m[1]))
	}
	for _, m := range listed.FindAllStringSubmatch(text, -1) {
		var words []string
		if err := json.Unmarshal([]byte(m[1]), &words); err != nil {
			continue // another language's list: [ALL]
		}
		words = slices.DeleteFunc(words, func(word string) bool { return word == "CMD" || word == "/posta" })
		if words[0] == "node" || words[0] == "up" || words[0] == "doctor" || words[0] == "balancer" {
			all = append(all, words)
		}
	}
	for _, m := range spoken.FindAllStringSubmatch(text, -1) {
		var words []string
		for _, word := range shellWord.FindAllString(m[1], -1) {
			words = append(words, strings.ReplaceAll(word, "'", ""))
		}
		all = append(all, words)
	}
	return all
}

// settings returns the environment that a text sets, as os.Environ would.
func settings(text string) []string {
	var env []string
	for _, m := range setting.FindAllStringSubmatch(text, -1) {
		if m[1] != "POSTA_UID" && m[1] != "POSTA_GID" && m[1] != "POSTA_TOKEN" && m[1] != "POSTA_TO" {
			env = append(env, m[1]+"="+m[2])
		}
	}
	return env
}

// parse reads a command line as posta would, without doing what it says.
func parse(env, args []string) error {
	root := newRoot(&terminal.Outside{Env: env})
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil || cmd.PreRunE == nil {
		return err
	}
	return cmd.PreRunE(cmd, cmd.Flags().Args())
}

func TestEveryCommandLineThatIsDeployedOrDescribedIsOne(t *testing.T) {
	t.Parallel()
	found := map[string]int{}
	for path, text := range deployed(t) {
		for _, args := range commands(t, text) {
			found[filepath.Dir(path)]++
			if err := parse(nil, args); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: posta %s: %v", path, strings.Join(args, " "), err)
			}
		}
	}
	for dir, least := range map[string]int{"deploy": 2, "deploy/compose": 4, "deploy/systemd": 3, "deploy/kubernetes": 1, "docs": 4} {
		if found[dir] < least {
			t.Errorf("found only %d command lines in %s: this test looks at too little", found[dir], dir)
		}
	}
}

func TestEverySettingThatIsDeployedStandsInForAFlag(t *testing.T) {
	t.Parallel()
	found := 0
	for path, text := range deployed(t) {
		if !strings.HasPrefix(path, "deploy") {
			continue
		}
		for _, entry := range settings(text) {
			found++
			name, _, _ := strings.Cut(entry, "=")
			flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "POSTA_"), "_", "-"))
			cmd, _, err := newRoot(&terminal.Outside{}).Find([]string{"node"})
			if err != nil || cmd.Flags().Lookup(flag) == nil {
				t.Errorf("%s: posta node has no --%s, for which %s would stand", path, flag, name)
			}
			if err := parse([]string{entry}, []string{"node"}); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if found < 10 {
		t.Errorf("found only %d settings: this test looks at too little", found)
	}
}

func TestNothingThatIsDeployedIsOpenToAll(t *testing.T) {
	t.Parallel()
	for path, text := range deployed(t) {
		if strings.HasPrefix(path, "deploy") && strings.Contains(text, "insecure") {
			t.Errorf("%s lets everybody in", path)
		}
	}
}

// TestGraceIsLongerThanADrain holds the chain: a task's timeout, a node's drain, the balancers'
// hard stop, the supervisor's grace.
func TestGraceIsLongerThanADrain(t *testing.T) {
	t.Parallel()
	drain := task.DefaultDrainDelay + task.DefaultDrainTimeout
	if task.DefaultTaskTimeout >= task.DefaultDrainTimeout || drain > balancer.DefaultDrainTimeout {
		t.Errorf("a task has %s, a drain %s, the balancers stop after %s", task.DefaultTaskTimeout, drain, balancer.DefaultDrainTimeout)
	}
	files := deployed(t)
	for path, pattern := range map[string]string{
		"deploy/compose/compose.yaml":           `stop_grace_period: (\d+)s`,
		"deploy/systemd/posta-node@.service":    `TimeoutStopSec=(\d+)`,
		"deploy/systemd/posta-balancer.service": `TimeoutStopSec=(\d+)`,
		"deploy/systemd/posta.service":          `TimeoutStopSec=(\d+)`,
		"deploy/kubernetes/posta.yaml":          `terminationGracePeriodSeconds: (\d+)`,
	} {
		all := regexp.MustCompile(pattern).FindAllStringSubmatch(files[path], -1)
		if len(all) == 0 {
			t.Errorf("%s says nothing of %s", path, pattern)
		}
		for _, m := range all {
			if grace := seconds(t, m[1]); grace <= balancer.DefaultDrainTimeout {
				t.Errorf("%s gives %s, and the balancers stop after %s", path, grace, balancer.DefaultDrainTimeout)
			}
		}
	}
}

// TestProbesNoticeADrainBeforeTheListenerCloses is what the drain delay is for.
func TestProbesNoticeADrainBeforeTheListenerCloses(t *testing.T) {
	t.Parallel()
	m := regexp.MustCompile(`(?s)readinessProbe:.*?periodSeconds: (\d+).*?timeoutSeconds: (\d+).*?failureThreshold: (\d+)`).
		FindStringSubmatch(deployed(t)["deploy/kubernetes/posta.yaml"])
	if m == nil {
		t.Fatal("there is no readiness probe")
	}
	failures, err := strconv.Atoi(m[3])
	if err != nil {
		t.Fatal(err)
	}
	if noticed := (seconds(t, m[1]) + seconds(t, m[2])) * time.Duration(failures); noticed >= task.DefaultDrainDelay {
		t.Errorf("a drain is noticed after %s, and the listener closes after %s", noticed, task.DefaultDrainDelay)
	}
}

func seconds(t *testing.T, text string) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n) * time.Second
}

// TestTheConfigurationInContainersIsWhatIsPrinted compares it with what the command line in
// the comment of the compose file prints.
func TestTheConfigurationInContainersIsWhatIsPrinted(t *testing.T) {
	t.Parallel()
	for _, args := range commands(t, deployed(t)["deploy/compose/compose.yaml"]) {
		if args[0] == "balancer" {
			golden(t, "../deploy/compose/nginx.conf", typeIn(t, "", nil, args...).stdout)
			return
		}
	}
	t.Error("the compose file does not say how nginx.conf was made")
}

// TestTheServiceInKubernetesIsCalledByItsNames compares the names by which a service is known to pods with those that
// its nodes answer to, and wants nothing of the secret that a cluster can do without.
func TestTheServiceInKubernetesIsCalledByItsNames(t *testing.T) {
	t.Parallel()
	text := deployed(t)["deploy/kubernetes/posta.yaml"]
	for _, name := range []string{"posta", "posta.$(NAMESPACE)", ".svc", ".svc.cluster.local"} {
		if !regexp.MustCompile(`"--allowed-hosts", "([^"]*,)?` + regexp.QuoteMeta(name) + `[,"]`).MatchString(text) {
			t.Errorf("clients that call %s are refused", name)
		}
	}
	if !regexp.MustCompile(`key: broker\s+optional: true`).MatchString(text) {
		t.Error("nodes do not start without a broker")
	}
}

// TestTheScrapeConfigurationIsForTheAlerts holds the two files of Prometheus to each other. A node with tokens answers
// /metrics to nobody without one.
func TestTheScrapeConfigurationIsForTheAlerts(t *testing.T) {
	t.Parallel()
	files := deployed(t)
	scrape := files["deploy/prometheus/prometheus.yaml"]
	for _, want := range []string{"job_name: posta ", "rule_files: [alerts.yaml]", "credentials_file: ", "type: Bearer"} {
		if !strings.Contains(scrape, want) {
			t.Errorf("the scrape configuration has no %q", want)
		}
	}
	if !strings.Contains(files["deploy/prometheus/alerts.yaml"], `up{job="posta"}`) {
		t.Error("the rules ask for another job than posta")
	}
}

// TestSystemdTakesTheUnits asks systemd itself, with this build in the place of the installed one.
func TestSystemdTakesTheUnits(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "systemd-analyze")
	dir := t.TempDir()
	for path, text := range deployed(t) {
		if filepath.Ext(path) != ".service" {
			continue
		}
		name := strings.Replace(filepath.Base(path), "@", "@9001", 1)
		text = strings.ReplaceAll(text, "/usr/local/bin/posta", testenv.Posta(t))
		text = strings.ReplaceAll(text, "/etc/posta", dir)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	units, err := filepath.Glob(dir + "/*.service")
	if err != nil || len(units) != 3 {
		t.Fatalf("units %v, %v", units, err)
	}
	p := testenv.Start(t, "systemd-analyze", append([]string{"verify", "--man=no", "--recursive-errors=no"}, units...)...)
	if code := p.Wait(t, patience); code != 0 || strings.Contains(p.Output(), dir) {
		t.Errorf("exit code %d:\n%s", code, p.Output())
	}
}

// TestTheManualNamesMetricsAndLogLinesThatExist keeps docs/operations.md from outliving them.
func TestTheManualNamesMetricsAndLogLinesThatExist(t *testing.T) {
	t.Parallel()
	text := deployed(t)["docs/operations.md"] + deployed(t)["deploy/prometheus/alerts.yaml"]
	var source strings.Builder
	for _, pattern := range []string{"../*/*.go", "../store/*/*.go", "../store/*/*/*.go", "../internal/*/*.go", "../broker/*/*.go", "../cli/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			code, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(code)
		}
	}
	metrics := regexp.MustCompile(`posta_[a-z_]+`).FindAllString(text, -1)
	for _, name := range metrics {
		if !strings.Contains(source.String(), `{"`+name+`", `) {
			t.Errorf("there is no metric %s", name)
		}
	}
	lines := 0
	for _, row := range regexp.MustCompile(`(?m)^\| [^|]+ \| [^|]+ \| ([^|]+) \| [^|]+ \| [^|]+ \|$`).FindAllStringSubmatch(text, -1) {
		message, quoted := strings.CutPrefix(row[1], "`")
		message, _, _ = strings.Cut(message, "`")
		if !quoted {
			continue
		}
		lines++
		if !strings.Contains(source.String(), `"`+message+`"`) {
			t.Errorf("nobody logs %q", message)
		}
	}
	if len(metrics) < 20 || lines < 10 {
		t.Errorf("found %d metrics and %d log lines: this test looks at too little", len(metrics), lines)
	}
}
