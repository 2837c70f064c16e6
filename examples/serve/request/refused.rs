//! Fields that other servers know, that would change the answer, and that this one cannot honour. They are refused by name unless
//! their value asks for nothing; a field that nobody knows is ignored.

use serde_json::{Value, json};

use super::fields::Fields;
use crate::http::error::ApiError;

/// Refuses what neither kind of request can have.
pub fn refuse_common(fields: &Fields<'_>) -> Result<(), ApiError> {
    refuse(fields, &["use_beam_search", "include_stop_str_in_output"], &json!(false))?;
    refuse(fields, &["best_of", "typical_p", "tfs_z", "length_penalty"], &json!(1))?;
    refuse(fields, &["mirostat", "dry_multiplier", "xtc_probability", "dynatemp_range"], &json!(0))?;
    refuse(fields, &["lora", "bad_words", "allowed_token_ids", "samplers"], &json!([]))?;
    refuse(fields, &["grammar", "chat_template", "suffix"], &json!(""))?;
    refuse(fields, &["id_slot"], &json!(-1))?;
    let guided =
        ["guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "json_schema"];
    for name in guided {
        fields.refuse(name, &[], "; use response_format")?;
    }
    refuse(fields, &["truncate_prompt_tokens", "prompt_logprobs"], &json!(0))
}

/// Refuses some fields that have one neutral value.
pub fn refuse(fields: &Fields<'_>, names: &[&str], neutral: &Value) -> Result<(), ApiError> {
    names.iter().try_for_each(|name| fields.refuse(name, std::slice::from_ref(neutral), ""))
}
