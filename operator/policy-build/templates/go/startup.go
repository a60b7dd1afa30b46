// Package policy is the startup policy {{name}}: the leader first, the workers when it is ready.
package policy

import (
	"fmt"

	lifecycle "{{name}}/bindings/muster_policy_lifecycle"
	startup "{{name}}/bindings/muster_policy_startup"
	types "{{name}}/bindings/muster_policy_types"
	wit "{{name}}/bindings/wit/types"
)

// Describe says who the policy is.
func Describe() lifecycle.Descriptor {
	return lifecycle.Descriptor{Name: "{{name}}", Version: "0.1.0"}
}

// ValidateSettings reports what is wrong with the settings. There are none yet.
func ValidateSettings(document string) []types.SettingsError {
	if document != "{}" {
		return []types.SettingsError{{Message: "{{name}} has no settings; leave them out"}}
	}
	return nil
}

// Prepare has nothing to name: startup policies see no nodes.
func Prepare(document string) lifecycle.Preparation {
	return lifecycle.Preparation{}
}

// Next answers for every group.
func Next(document string, request startup.Request) (result wit.Result[[]startup.Step, types.Failure]) {
	// A panic would end the call without a word; this way its message reaches the users.
	defer func() {
		if fault := recover(); fault != nil {
			result = wit.Err[[]startup.Step](types.MakeFailureInternal(fmt.Sprint(fault)))
		}
	}()
	steps := make([]startup.Step, 0, len(request.Groups))
	for _, group := range request.Groups {
		steps = append(steps, step(group))
	}
	return wit.Ok[[]startup.Step, types.Failure](steps)
}

func step(group startup.Group) startup.Step {
	for _, pod := range group.Pods {
		if pod.Rank == 0 && pod.Phase == startup.Phase_Ready {
			message := fmt.Sprintf("the leader is ready, so all %d pods may start", group.Size)
			return startup.Step{Group: group.Index, Admit: group.Size, Reason: types.Reason{Code: "LeaderReady", Message: message}}
		}
	}
	message := fmt.Sprintf("%d workers wait until the leader is ready", group.Size-1)
	return startup.Step{Group: group.Index, Admit: 1, Reason: types.Reason{Code: "WaitingForLeader", Message: message}}
}
