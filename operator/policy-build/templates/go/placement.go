// Package policy is the placement policy {{name}}: every group inside one domain of one node label, in the one with the least
// room left over.
package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	cluster "{{name}}/bindings/muster_policy_cluster"
	lifecycle "{{name}}/bindings/muster_policy_lifecycle"
	placement "{{name}}/bindings/muster_policy_placement"
	types "{{name}}/bindings/muster_policy_types"
	wit "{{name}}/bindings/wit/types"
)

// settings is what can be set. A misspelt field is a fault.
type settings struct {
	// Level is the node label whose values are the domains.
	Level string `json:"level"`
}

func parse(document string) (settings, error) {
	parsed := settings{Level: "topology.kubernetes.io/zone"}
	decoder := json.NewDecoder(strings.NewReader(document))
	decoder.DisallowUnknownFields()
	return parsed, decoder.Decode(&parsed)
}

// Describe says who the policy is.
func Describe() lifecycle.Descriptor {
	return lifecycle.Descriptor{Name: "{{name}}", Version: "0.1.0"}
}

// ValidateSettings reports what is wrong with the settings.
func ValidateSettings(document string) []types.SettingsError {
	if _, err := parse(document); err != nil {
		return []types.SettingsError{{Message: err.Error()}}
	}
	return nil
}

// Prepare names the node labels that the policy reads.
func Prepare(document string) lifecycle.Preparation {
	parsed, _ := parse(document)
	return lifecycle.Preparation{Levels: []string{parsed.Level}}
}

// Place answers for every unit.
func Place(document string, view *cluster.Snapshot, request placement.Request) (result wit.Result[[]placement.Answer, types.Failure]) {
	// The snapshot is lent for this call and must be given back.
	defer view.Drop()
	// A panic would end the call without a word; this way its message reaches the users.
	defer func() {
		if fault := recover(); fault != nil {
			result = wit.Err[[]placement.Answer](types.MakeFailureInternal(fmt.Sprint(fault)))
		}
	}()
	parsed, err := parse(document)
	if err != nil {
		faults := []types.SettingsError{{Message: err.Error()}}
		return wit.Err[[]placement.Answer](types.MakeFailureSettings(faults))
	}
	// What Prepare named comes first among the levels. A set that wants domains for itself says at which level.
	level := request.Exclusive.SomeOr(0)
	given := given{}
	answers := make([]placement.Answer, 0, len(request.Units))
	for _, unit := range request.Units {
		domain, found := choose(unit, view, level, request.Exclusive.IsSome(), &given)
		answers = append(answers, answer(unit, view, level, domain, found, parsed))
	}
	return wit.Ok[[]placement.Answer, types.Failure](answers)
}

// given is what this call gave away already. The snapshot does not change while it runs, so the policy counts for itself.
type given struct {
	domains []uint32
	// pods are all that were put into the last of them.
	pods []types.Demand
}

func (given *given) add(domain uint32, pods []types.Demand) {
	given.domains = append(given.domains, domain)
	given.pods = pods
}

// choose finds the domain for a unit.
func choose(unit placement.Unit, view *cluster.Snapshot, level uint32, exclusive bool, given *given) (domain uint32, found bool) {
	if unit.Current.IsSome() {
		if domain := unit.Current.Some().Domains[level]; domain != math.MaxUint32 {
			// New pods join those that run already.
			given.add(domain, unit.Pods)
			return domain, true
		}
	}
	if count := len(given.domains); count > 0 && !exclusive {
		// Is there still room where the unit before this one went, for both of them?
		last, together := given.domains[count-1], slices.Concat(given.pods, unit.Pods)
		if slices.Contains(view.BestDomains(level, together, false, 1024), last) {
			given.pods = together
			return last, true
		}
	}
	// One more than were given away: one of them is still free.
	for _, domain := range view.BestDomains(level, unit.Pods, exclusive, uint32(len(given.domains)+1)) {
		if !slices.Contains(given.domains, domain) {
			given.add(domain, unit.Pods)
			return domain, true
		}
	}
	return 0, false
}

func answer(unit placement.Unit, view *cluster.Snapshot, level, domain uint32, found bool, parsed settings) placement.Answer {
	pods := uint32(0)
	for _, demand := range unit.Pods {
		pods += demand.Pods
	}
	if !found {
		message := fmt.Sprintf("no domain of %s has room for %d pods", parsed.Level, pods)
		return placement.Answer{Unit: unit.Id, Decision: placement.MakeDecisionHold(30_000), Reason: types.Reason{Code: "NoRoom", Message: message}}
	}
	message := fmt.Sprintf("%s has room for %d pods, with the least left over", view.DomainName(level, domain), pods)
	return placement.Answer{
		Unit:     unit.Id,
		Decision: placement.MakeDecisionWithin([]types.Location{{Level: level, Domain: domain}}),
		Reason:   types.Reason{Code: "LeastLeftOver", Message: message},
	}
}
