package deploycheck

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// objects parses the manifest strictly, each object with the type of its kind.
func objects(t *testing.T) (*core.Service, *policy.PodDisruptionBudget, *apps.Deployment) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, "kubernetes", "posta.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	service, budget, deployment := &core.Service{}, &policy.PodDisruptionBudget{}, &apps.Deployment{}
	byKind := map[string]any{
		"v1/Service": service, "policy/v1/PodDisruptionBudget": budget, "apps/v1/Deployment": deployment,
	}
	for _, part := range bytes.Split(text, []byte("\n---\n")) {
		var kind struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(part, &kind); err != nil {
			t.Fatal(err)
		}
		name := kind.APIVersion + "/" + kind.Kind
		object, known := byKind[name]
		if !known {
			t.Fatalf("there is an unexpected or second %q", name)
		}
		delete(byKind, name)
		if err := yaml.UnmarshalStrict(part, object); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for name := range byKind {
		t.Fatalf("the manifest has no %s", name)
	}
	return service, budget, deployment
}

func TestTheManifestsFitTogether(t *testing.T) {
	t.Parallel()
	service, budget, deployment := objects(t)
	labels := deployment.Spec.Template.Labels
	for name, selector := range map[string]map[string]string{
		"service": service.Spec.Selector, "budget": budget.Spec.Selector.MatchLabels, "deployment": deployment.Spec.Selector.MatchLabels,
	} {
		if len(selector) == 0 {
			t.Errorf("the %s selects everything", name)
		}
		for key, value := range selector {
			if labels[key] != value {
				t.Errorf("the %s selects %s=%s, and pods have %v", name, key, value, labels)
			}
		}
	}
	ports := map[string]bool{}
	for _, port := range deployment.Spec.Template.Spec.Containers[0].Ports {
		ports[port.Name] = true
	}
	for _, port := range service.Spec.Ports {
		if !ports[port.TargetPort.StrVal] {
			t.Errorf("the service forwards to port %s, which no container has", port.TargetPort.String())
		}
	}
	volumes := map[string]bool{}
	for _, volume := range deployment.Spec.Template.Spec.Volumes {
		volumes[volume.Name] = true
	}
	for _, mount := range deployment.Spec.Template.Spec.Containers[0].VolumeMounts {
		if !volumes[mount.Name] {
			t.Errorf("the mounted volume %s does not exist", mount.Name)
		}
	}
}

func TestPodsHaveProbesAndFewPermissions(t *testing.T) {
	t.Parallel()
	_, _, deployment := objects(t)
	container := deployment.Spec.Template.Spec.Containers[0]
	for path, probe := range map[string]*core.Probe{"/readyz": container.ReadinessProbe, "/healthz": container.LivenessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != container.Ports[0].Name {
			t.Errorf("the probe of %s is %+v", path, probe)
		}
	}
	pod, own := deployment.Spec.Template.Spec.SecurityContext, container.SecurityContext
	if !*pod.RunAsNonRoot || *own.AllowPrivilegeEscalation || !*own.ReadOnlyRootFilesystem || own.Capabilities.Drop[0] != "ALL" {
		t.Errorf("pods have too many permissions: %+v %+v", pod, own)
	}
	for _, volume := range deployment.Spec.Template.Spec.Volumes {
		if mode := *volume.Secret.DefaultMode; mode != 0o440 {
			t.Errorf("volume %s has mode %o: only the group of the pod needs it", volume.Name, mode)
		}
	}
}
